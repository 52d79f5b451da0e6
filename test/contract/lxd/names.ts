import assert from "node:assert/strict";
import fc from "fast-check";
import type * as z from "zod";
import { api, type LxdClient } from "../../../provider/lxd/client/client";
import {
  aclNameSchema,
  clusterGroupNameSchema,
  configKeySchema,
  deviceNameSchema,
  imageAliasSchema,
  instanceNameSchema,
  networkNameSchema,
  poolNameSchema,
  profileNameSchema,
  projectSchema,
  volumeNameSchema,
} from "../../../provider/lxd/names";
import { hasCode, messageOf } from "../../../provider/support/errors";
import type { ContractLab } from "./harness";

/** An object with a name, its creation and removal, and names that LXD is known to accept and to refuse. */
interface Named {
  readonly what: string;
  readonly schema: z.ZodType;
  readonly collection: string;
  readonly body: (name: string, fingerprint: string) => object;
  readonly target?: boolean;
  /** What is created, if it is not called by the name itself. */
  readonly madeAs?: string;
  readonly taken: readonly string[];
  readonly refused: readonly string[];
  /** Whether servers with {@link isApiName} ask for it too, or for nothing else. */
  readonly apiName?: "also" | "also, with slashes" | "instead";
}

/** The rule of Incus 7 for most names. */
function isApiName(name: string, slashes: boolean): boolean {
  const isWhole = slashes || !name.includes("/");
  return isWhole && name.length <= 64 && /^[A-Za-z0-9]([^\s"'$&*+?`]*[A-Za-z0-9])?$/.test(name);
}

const ODD = [
  "a+b",
  "a,b",
  "a=b",
  "a*b",
  "a%b",
  "a?b",
  "a#b",
  "a&b",
  "a;b",
  "a\\b",
  "a~b",
  "a$b",
  "a(b",
  "ä",
  "a<b",
  "@a",
  "user.team@corp",
];
const LONG = "x".repeat(80);
const inProfile = (contents: (name: string) => object) => ({
  collection: "/1.0/profiles",
  madeAs: "contract-names",
  body: (name: string) => ({ name: "contract-names", ...contents(name) }),
});

const KINDS: readonly Named[] = [
  {
    what: "a profile",
    schema: profileNameSchema,
    collection: "/1.0/profiles",
    body: (name) => ({ name }),
    taken: ["a", "-a", "a-", ".a", "a.b", "a_b", "a b", "a:b", "a'b", 'a"b', " a", LONG, ...ODD],
    refused: [".", "..", "a/b", ""],
    apiName: "also",
  },
  {
    what: "a project",
    schema: projectSchema,
    collection: "/1.0/projects",
    body: (name) => ({ name }),
    taken: ["a", "-a", "a-", ".a", "a.b", "a:b", LONG, ...ODD],
    refused: [".", "..", "a/b", "a_b", "a b", "a'b", 'a"b', ""],
    apiName: "also",
  },
  {
    what: "a cluster group",
    schema: clusterGroupNameSchema,
    collection: "/1.0/cluster/groups",
    body: (name) => ({ name }),
    taken: ["a", "-a", "a-", ".a", "a.b", "a:b", LONG, ...ODD],
    refused: [".", "..", "*", "a/b", "a_b", "a b", "a'b", 'a"b', ""],
    apiName: "instead",
  },
  {
    what: "a storage pool",
    schema: poolNameSchema,
    collection: "/1.0/storage-pools",
    body: (name) => ({ name, driver: "dir" }),
    target: true,
    taken: ["a", "-a", "a-", ".a", "a.b", "a_b", "a:b", "a'b", LONG, ...ODD],
    refused: ["a/b", "a b", " a", ""],
    apiName: "also",
  },
  {
    what: "a volume",
    schema: volumeNameSchema,
    collection: "/1.0/storage-pools/default/volumes/custom",
    body: (name) => ({ name }),
    target: true,
    taken: ["a", "-a", "a-", ".a", "a.b", "a_b", "a b", "a:b", "a'b", 'a"b', " a", LONG, ...ODD],
    refused: ["a/b", ""],
    apiName: "also",
  },
  {
    what: "a network",
    schema: networkNameSchema,
    collection: "/1.0/networks",
    body: (name) => ({ name, type: "bridge" }),
    target: true,
    taken: ["-a", "a-", ".a", "a.b", "a_b", "x".repeat(15)],
    refused: ["a", ".", "a/b", "a b", "a:b", "x".repeat(16), "", ...ODD],
    apiName: "also",
  },
  {
    what: "a network ACL",
    schema: aclNameSchema,
    collection: "/1.0/network-acls",
    body: (name) => ({ name }),
    taken: ["a", "a-b", "aB1", "x".repeat(63)],
    refused: ["-a", "a-", ".a", "a.b", "a_b", "a b", "a/b", "123", "10.0.0.1", "x".repeat(64), "", ...ODD],
    apiName: "also",
  },
  {
    what: "an alias",
    schema: imageAliasSchema,
    collection: "/1.0/images/aliases",
    body: (name, target) => ({ name, target }),
    taken: ["a", "-a", ".a", "a_b", "a b", "a/b", "a:b", "a'b", " a", LONG, ...ODD],
    refused: [""],
    apiName: "also, with slashes",
  },
  {
    what: "a device",
    schema: deviceNameSchema,
    ...inProfile((name) => ({ devices: { [name]: { type: "none" } } })),
    taken: ["a", "-a", "a-", "a.b", "a_b", "a/b", "my/disk", "a:b", "_a", "x".repeat(63)],
    refused: [".a", ".", "..", "a b", "x".repeat(65), ...ODD],
    apiName: "instead",
  },
  {
    what: "a user's key",
    schema: configKeySchema,
    ...inProfile((name) => ({ config: { [`user.${name}`]: "1" } })),
    taken: ["a", "team@corp", "a b", "a/b", ".", LONG, ...ODD],
    refused: [],
  },
  {
    what: "a variable of the environment",
    schema: configKeySchema,
    ...inProfile((name) => ({ config: { [`environment.${name}`]: "1" } })),
    taken: ["a", "a b", "a/b", ...ODD],
    refused: [],
  },
  {
    what: "a user's key of a device",
    schema: configKeySchema,
    ...inProfile((name) => ({ devices: { e: { type: "nic", nictype: "bridged", parent: "br0", [`user.${name}`]: "1" } } })),
    taken: ["a", "team@corp", "a b", ...ODD],
    refused: [],
  },
];

/** What a schema validates: the name, or the key that contains it. */
const asked = (what: string, name: string): string =>
  what.startsWith("a user's key") ? `user.${name}` : what.startsWith("a variable") ? `environment.${name}` : name;

/** Unusual names: characters with a special meaning somewhere, and letters of all scripts. */
const generated = fc.sample(
  fc
    .string({
      unit: fc.oneof(
        fc.constantFrom(...Array.from("abAB01._-:/@+ ~%&=,")),
        fc.string({ unit: "grapheme", minLength: 1, maxLength: 1 }),
      ),
      minLength: 1,
      maxLength: 12,
    })
    .filter((name) => !/[\p{Control}\p{Surrogate}]/u.test(name) && name !== "." && name !== ".."),
  { numRuns: 24, seed: 9 },
);

/** The rules for names: a program can write every name that LXD accepts. */
export function namesContract(lab: () => ContractLab): void {
  describe("the name of", () => {
    for (const kind of KINDS) {
      /** Whether LXD accepts the name and finds the object by it. The object is removed again. */
      const takes = async (lxd: LxdClient, name: string): Promise<boolean> => {
        const target = kind.target === true ? lab().harness.primary.name : undefined;
        try {
          await lxd.change("POST", kind.collection, { query: { target }, body: kind.body(name, await lab().fingerprint()) });
        } catch (error) {
          assert.ok(hasCode(error, "api"), messageOf(error));
          return false;
        }
        await lxd.remove(kind.collection + api`/${kind.madeAs ?? name}`);
        return true;
      };

      it(`${kind.what} is accepted and refused as this library expects`, async () => {
        const lxd = await lab().lxd();
        const expected = (name: string): boolean => {
          const isTaken = kind.taken.includes(name);
          if (kind.apiName === undefined || !lab().server.apiNames) {
            return isTaken;
          }
          return (isTaken || kind.apiName === "instead") && isApiName(name, kind.apiName === "also, with slashes");
        };
        for (const name of [...kind.taken, ...kind.refused]) {
          const isTaken = await takes(lxd, name);
          assert.equal(isTaken, expected(name), `LXD ${isTaken ? "accepts" : "refuses"} ${JSON.stringify(name)}`);
          const isAllowed = kind.schema.safeParse(asked(kind.what, name)).success;
          assert.ok(isAllowed || !isTaken, `the schema refuses ${JSON.stringify(name)}`);
        }
      });

      it(`${kind.what} may be any name that LXD accepts`, async () => {
        const lxd = await lab().lxd();
        for (const name of generated) {
          const ours = kind.schema.safeParse(asked(kind.what, name)).success;
          assert.ok(ours || !(await takes(lxd, name)), `LXD accepts ${JSON.stringify(name)}, and the schema refuses it`);
        }
      });
    }

    it("an instance is refused where LXD refuses it, and accepted otherwise", async () => {
      const lxd = await lab().lxd();
      for (const name of [...generated, ...ODD, "123", "a-", "-a", "a_b", "a.b", LONG]) {
        if (!instanceNameSchema.safeParse(name).success) {
          const body = { name, type: "container", source: { type: "none" } };
          const answer = lxd.change("POST", "/1.0/instances", { query: { target: lab().harness.primary.name }, body });
          await assert.rejects(answer, (error: unknown) => hasCode(error, "api"), name);
        }
      }
    });
  });
}
