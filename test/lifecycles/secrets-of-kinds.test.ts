import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { withSecrets } from "../../provider/engine/resource";
import { fingerprintOf } from "../../provider/lxd/images/files";
import { hostSysctlsLifecycle } from "../../provider/resources/host-sysctls";
import { clusterGroupLifecycle } from "../../provider/resources/lxd-cluster-group";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { imageLifecycle } from "../../provider/resources/lxd-image";
import { networkLifecycle } from "../../provider/resources/lxd-network";
import { networkAclLifecycle } from "../../provider/resources/lxd-network-acl";
import { networkForwardLifecycle } from "../../provider/resources/lxd-network-forward";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { profileLifecycle } from "../../provider/resources/lxd-profile";
import { projectLifecycle } from "../../provider/resources/lxd-project";
import { serverConfigLifecycle } from "../../provider/resources/lxd-server-config";
import { storagePoolLifecycle } from "../../provider/resources/lxd-storage-pool";
import { storageVolumeLifecycle } from "../../provider/resources/lxd-storage-volume";
import { trustCertificateLifecycle } from "../../provider/resources/lxd-trust-certificate";
import { vmLifecycle } from "../../provider/resources/lxd-vm";
import { hostCommandLifecycle, vmCommandLifecycle } from "../../provider/resources/machine-command";
import { hostFileLifecycle, vmFileLifecycle } from "../../provider/resources/machine-file";
import { hostPackagesLifecycle, vmPackagesLifecycle } from "../../provider/resources/machine-packages";
import { hostServiceLifecycle, vmServiceLifecycle } from "../../provider/resources/machine-service";
import { hostUserLifecycle, vmUserLifecycle } from "../../provider/resources/machine-user";
import { figure } from "../support/figure";
import { SecretSearch } from "../support/secret-search";
import { Managed, type SimulatedCluster, startTwoMembers } from "../unit/resources/simulated-cluster";
import { type Place, placesOf, planted, secretPaths, without } from "./support/secret-places";
import { KINDS } from "./support/valid-args";

type Properties = Record<string, unknown>;

const LIFECYCLES = [
  nodeLifecycle,
  clusterMemberLifecycle,
  clusterGroupLifecycle,
  serverConfigLifecycle,
  storagePoolLifecycle,
  networkLifecycle,
  networkAclLifecycle,
  networkForwardLifecycle,
  imageLifecycle,
  profileLifecycle,
  projectLifecycle,
  storageVolumeLifecycle,
  trustCertificateLifecycle,
  vmLifecycle,
  vmUserLifecycle,
  hostUserLifecycle,
  hostSysctlsLifecycle,
  vmCommandLifecycle,
  hostCommandLifecycle,
  vmFileLifecycle,
  hostFileLifecycle,
  vmServiceLifecycle,
  hostServiceLifecycle,
  vmPackagesLifecycle,
  hostPackagesLifecycle,
];

/** The config of a host itself has no secret key: those of a member are in its pools and networks. The kernel has other parameters. */
const NO_SUCH_KEYS = ["LxdNode", "HostSysctls"];

/** Keys of LXD's config, one for each type of secret. */
const KEYS = [
  "environment.TOKEN",
  "user.note",
  "cloud-init.user-data",
  "bgp.peers.upstream.password",
  "powerflex.user.password",
  "pure.api.token",
  "maas.api.key",
  "secret-key",
  "systemd.credential.db",
  "systemd.credential-binary.db",
  "acme.provider.environment",
  "rbac.agent.private_key",
  "oidc.client.secret",
];

/** A text that is a secret whatever the name of its key is. */
const TELLING = ["lxc.environment = PASSWORD=", "https://someone:", "-----BEGIN PRIVATE KEY-----\n"];

describe("every place of every kind that may hold a secret", () => {
  const kinds = LIFECYCLES.map(({ kind, schema }) => ({ kind, places: placesOf(schema, KEYS) }));
  let marked = 0;

  after(() => figure("places that are stored as secrets", marked));

  it("is checked for all kinds", () => assert.deepEqual(LIFECYCLES.map(({ kind }) => kind).sort(), [...KINDS].sort()));

  for (const { kind, places } of kinds) {
    it(`is stored as a secret by ${kind}, even if the program does not mark it`, async () => {
      assert.ok(places.length > 0, "none was found");
      for (const place of places) {
        const [first = "", ...rest] = place;
        for (const given of [
          planted({}, [place], () => "canary"),
          { [first]: pulumi.output(planted({}, [[first, ...rest]], () => "canary")[first]) },
        ]) {
          assert.deepEqual(await plainTexts(withSecrets(given)), [], place.join("."));
          marked += 1;
        }
      }
    });
  }

  it("is stored as a secret because of its text", async () => {
    for (const text of TELLING) {
      const value = `${text}canary@x`;
      assert.deepEqual(
        await plainTexts(withSecrets({ config: { "raw.lxc": value }, list: [value], image: { server: value } })),
        [],
      );
    }
  });

  it("is not stored as a secret if it holds none, so that a preview shows it", async () => {
    const plain = {
      name: "web",
      cpu: "canary",
      privateKeyPath: "canary",
      config: { "limits.cpu": "canary", "user.pulumi.urn": "canary" },
    };
    assert.equal((await plainTexts(withSecrets(plain))).length, 4);
  });
});

/** Paths at which `canary` appears without being a secret. */
async function plainTexts(value: unknown, path = ""): Promise<string[]> {
  if (pulumi.Output.isInstance(value)) {
    const known = await new Promise((resolve) => value.apply(resolve));
    return (await pulumi.isSecret(value)) ? [] : plainTexts(known, path);
  }
  if (typeof value === "string") {
    return value.includes("canary") ? [path] : [];
  }
  const members = value !== null && typeof value === "object" ? Object.entries(value) : [];
  return (await Promise.all(members.map(([name, member]) => plainTexts(member, `${path}.${name}`)))).flat();
}

/** Creates a secret for a place: a text that is valid there. */
function secretFor(round: string, place: Place): string {
  const name = place.at(-1) ?? "";
  const canary = `c4nary-${round}-${place.join("-").replace(/[^A-Za-z]+/g, "-")}`;
  switch (name) {
    case "userData":
    case "vendorData":
    case "cloud-init.user-data":
      return `#cloud-config\npassword: ${canary}\n`;
    case "networkConfig":
      return `version: 2\nwifis:\n  wlan0: { access-points: { home: {} } }\n  password: "${canary}"\n`;
    case "passwordHash":
      return `$6$saltsalt$${canary
        .replace(/[^A-Za-z0-9]/g, "")
        .padEnd(86, "x")
        .slice(0, 86)}`;
    case "content":
      return `password = ${canary}\n`;
    default:
      return canary;
  }
}

/** The canary itself, as found when only part of the text is quoted. */
function canariesIn(text: string): string[] {
  return [text.split(/[\n"]|: | = /).find((part) => part.includes("nary")) ?? text];
}

/** One object of a kind on the simulated cluster. */
interface Subject {
  readonly kind: string;
  start(): Managed;
  args(): Promise<Properties>;
  /** Which of the kind's places both it and LXD accept. */
  takes(place: Place): boolean;
  /** Further places: texts that are secrets only if they look like one. */
  readonly texts?: readonly Place[];
  /** Path of the object in LXD, if it has a config to which others may add keys. */
  readonly path?: string;
}

describe("secrets of every kind, at creation, change, refusal and adoption", () => {
  let simulated: SimulatedCluster;
  let looked = 0;

  before(async () => {
    simulated = await startTwoMembers();
    simulated.lab.seedImage("bcn2", { alias: "debian" });
    const { lab } = simulated;
    for (const target of ["?target=bcn2", "?target=bcn1", ""]) {
      await lab.byHand("bcn2", "POST", `/1.0/storage-pools${target}`, { name: "base", driver: "dir" });
      const config = target === "" ? { "ipv4.address": "10.10.10.1/24", "ipv6.address": "none" } : {};
      await lab.byHand("bcn2", "POST", `/1.0/networks${target}`, { name: "shopbr0", config });
    }
    const source = { type: "image", alias: "debian" };
    const devices = { root: { type: "disk", path: "/", pool: "base" } };
    await lab.byHand("bcn2", "POST", "/1.0/instances", { name: "vm0", type: "container", source, devices });
    await lab.byHand("bcn2", "PUT", "/1.0/instances/vm0/state", { action: "start" });
  });

  after(async () => {
    await simulated.stop();
    figure("places checked for secrets of kinds", looked);
  });

  const config =
    (...keys: string[]) =>
    (place: Place): boolean =>
      place[0] === "config" && keys.includes(place[1] ?? "");
  const subjects: readonly Subject[] = [
    {
      kind: "LxdProfile",
      start: () => new Managed(profileLifecycle, "web"),
      args: async () => ({
        cluster: simulated.cluster,
        name: "web",
        devices: { eth0: { type: "nic", nictype: "bridged", parent: "br0" } },
      }),
      takes: (place) =>
        config("environment.TOKEN", "user.note", "cloud-init.user-data")(place) ||
        (place[0] === "devices" && place[2] === "user.note"),
      path: "/1.0/profiles/web",
    },
    {
      kind: "LxdProject",
      start: () => new Managed(projectLifecycle, "shop"),
      args: async () => ({ cluster: simulated.cluster, name: "shop" }),
      takes: config("user.note"),
      path: "/1.0/projects/shop",
    },
    {
      kind: "LxdNetworkAcl",
      start: () => new Managed(networkAclLifecycle, "web"),
      args: async () => ({ cluster: simulated.cluster, name: "web" }),
      takes: config("user.note"),
      path: "/1.0/network-acls/web",
    },
    {
      kind: "LxdNetworkForward",
      start: () => new Managed(networkForwardLifecycle, "shop"),
      args: async () => ({ cluster: simulated.cluster, network: "shopbr0", listenAddress: "192.0.2.1", target: "bcn2" }),
      takes: config("user.note"),
      path: "/1.0/networks/shopbr0/forwards/192.0.2.1?target=bcn2",
    },
    {
      kind: "LxdServerConfig",
      start: () => new Managed(serverConfigLifecycle, "settings"),
      args: async () => ({ cluster: simulated.cluster }),
      takes: config("user.note", "maas.api.key", "rbac.agent.private_key"),
    },
    {
      kind: "LxdVm",
      start: () => new Managed(vmLifecycle, "web1"),
      args: async () => ({
        cluster: simulated.cluster,
        ...{ name: "web1", instanceType: "container", image: { alias: "debian" }, rootDisk: { pool: "base" } },
        devices: { eth0: { type: "nic", nictype: "bridged", parent: "br0" } },
      }),
      takes: (place) =>
        config("environment.TOKEN", "user.note")(place) ||
        place[0] === "cloudInit" ||
        (place[0] === "devices" && place[2] === "user.note"),
      path: "/1.0/instances/web1",
    },
    {
      kind: "LxdNetwork",
      start: () => new Managed(networkLifecycle, "lxdbr0"),
      args: async () => ({ cluster: simulated.cluster, name: "lxdbr0" }),
      takes: config("bgp.peers.upstream.password", "user.note"),
      path: "/1.0/networks/lxdbr0",
    },
    {
      kind: "LxdStoragePool",
      start: () => new Managed(storagePoolLifecycle, "fast"),
      args: async () => ({ cluster: simulated.cluster, name: "fast", driver: "dir" }),
      takes: config("user.note"),
      path: "/1.0/storage-pools/fast",
    },
    {
      kind: "LxdStorageVolume",
      start: () => new Managed(storageVolumeLifecycle, "data"),
      args: async () => ({ cluster: simulated.cluster, name: "data", pool: "base", target: "bcn2" }),
      takes: config("user.note"),
      path: "/1.0/storage-pools/base/volumes/custom/data",
    },
    {
      kind: "LxdImage",
      start: () => new Managed(imageLifecycle, "own"),
      args: async () => {
        const paths = ["metadata.tar", "rootfs.squashfs"].map((name) => join(simulated.lab.knownHostsPath, "..", name));
        paths.forEach((path) => {
          writeFileSync(path, path);
        });
        const [metadataPath = "", rootfsPath = ""] = paths;
        const sourceFingerprint = await fingerprintOf({ metadataPath, rootfsPath });
        return { cluster: simulated.cluster, metadataPath, rootfsPath, sourceFingerprint };
      },
      takes: (place) => place[0] === "properties",
    },
    {
      kind: "LxdClusterMember",
      start: () => new Managed(clusterMemberLifecycle, "bcn1"),
      args: async () => ({
        connection: simulated.cluster.endpoints[1],
        ...{ name: "bcn1", address: "192.168.1.101", cluster: { endpoints: [simulated.cluster.endpoints[0]] }, adopt: true },
      }),
      takes: (place) => config("user.note")(place) || place[0] === "trustPassword",
      path: "/1.0/cluster/members/bcn1",
    },
    {
      kind: "VmUser",
      start: () => new Managed(vmUserLifecycle, "ops"),
      args: async () => ({ cluster: simulated.cluster, instance: "vm0", name: "ops" }),
      takes: (place) => place[0] === "passwordHash",
    },
    {
      kind: "HostUser",
      start: () => new Managed(hostUserLifecycle, "ops"),
      args: async () => ({ connection: simulated.cluster.endpoints[0], name: "ops" }),
      takes: (place) => place[0] === "passwordHash",
    },
    {
      kind: "VmCommand",
      start: () => new Managed(vmCommandLifecycle, "it"),
      args: async () => ({ cluster: simulated.cluster, instance: "vm0", command: ["cat", "/etc/hostname"] }),
      takes: (place) => ["environment", "stdin"].includes(String(place[0])),
    },
    {
      kind: "HostCommand",
      start: () => new Managed(hostCommandLifecycle, "it"),
      args: async () => ({ connection: simulated.cluster.endpoints[0], command: ["cat", "/etc/hostname"] }),
      takes: (place) => ["environment", "stdin"].includes(String(place[0])),
    },
    {
      kind: "VmFile",
      start: () => new Managed(vmFileLifecycle, "conf"),
      args: async () => ({ cluster: simulated.cluster, instance: "vm0", path: "/srv/app.conf", content: "" }),
      takes: () => false,
      texts: [["content"]],
    },
    {
      kind: "HostFile",
      start: () => new Managed(hostFileLifecycle, "conf"),
      args: async () => ({ connection: simulated.cluster.endpoints[0], path: "/srv/app.conf", content: "" }),
      takes: () => false,
      texts: [["content"]],
    },
  ];

  it("are tried for every kind, and for every place but credentials", () => {
    for (const { kind, schema } of LIFECYCLES) {
      const subject = subjects.find((each) => each.kind === kind);
      const open = placesOf(schema, KEYS)
        .filter((place) => !place.some((name) => /^(connection|endpoints|peers)$/.test(name)))
        .map(([first = ""]) => first);
      const tried = new Set(
        placesOf(schema, KEYS)
          .filter((place) => subject?.takes(place) === true)
          .map(([first = ""]) => first),
      );
      const left = [...new Set(open)].filter(
        (name) => !tried.has(name) && name !== "memberConfig" && !NO_SUCH_KEYS.includes(kind),
      );
      assert.deepEqual(left, [], kind);
    }
  });

  for (const subject of subjects) {
    it(`${subject.kind}: none is in a message, a command line, a path, or in plain text in state`, async () => {
      const { lab } = simulated;
      const { schema } = LIFECYCLES.find(({ kind }) => kind === subject.kind) ?? nodeLifecycle;
      const named = placesOf(schema, KEYS, await subject.args()).filter((place) => subject.takes(place));
      const places = [...named, ...(subject.texts ?? [])];
      assert.ok(places.length > 0);
      const withSecretsOf = async (round: string): Promise<Properties> =>
        planted(await subject.args(), places, (place) => secretFor(round, place));
      const FOREIGN = "c4nary-foreign-secret";
      const rounds = ["first", "second"] as const;
      const secrets = [FOREIGN, ...rounds.flatMap((round) => places.flatMap((place) => canariesIn(secretFor(round, place))))];
      const search = new SecretSearch(Object.fromEntries(secrets.map((secret) => [secret, secret])));
      const managed = subject.start();
      let since = lab.requests.length;

      const look = (args: Properties, error?: string): void => {
        const told = [
          ...managed.notes,
          ...managed.warnings,
          ...managed.progress,
          error ?? "",
          JSON.stringify(managed.inState("unfinished") ?? ""),
        ];
        assert.deepEqual(search.in(told.join("\n")), [], told.join("\n"));
        const kept = JSON.stringify(without(managed.state ?? {}, secretPaths(withSecrets(args))));
        assert.deepEqual(search.in(kept), [], kept);
        assert.deepEqual(search.in(JSON.stringify(managed.state ?? {})).includes(FOREIGN), false, "a foreign secret is in state");
        const seen = [
          ...lab.requests.slice(since).map(({ path }) => path),
          ...lab.hosts.flatMap(({ commands }) => commands.map((argv) => argv.join(" "))),
        ];
        assert.deepEqual(search.in(seen.join("\n")), []);
        since = lab.requests.length;
        looked += 4;
      };
      const upQuoted = async (args: Properties): Promise<void> => {
        for (let nth = 1; ; nth++) {
          const fault = lab.faults.add({
            when: { method: /^(POST|PUT|PATCH)$/, nth },
            effect: {
              quote: (body) => `cannot take ${body} in place of ${JSON.stringify(secrets.filter((each) => each !== FOREIGN))}`,
            },
          });
          const error = await managed.up(args).then(
            () => undefined,
            (thrown: unknown) => (thrown as Error).message,
          );
          fault.remove();
          looked += fault.hits;
          // Before the first change of state is known, nobody owns the former secrets.
          look(args, managed.state === undefined ? undefined : error);
          if (fault.hits === 0) {
            break;
          }
        }
        assert.equal(await managed.up(args), "same");
        look(args);
      };
      const addForeign = async (): Promise<void> => {
        if (subject.path !== undefined) {
          const object = (await lab.byHand("bcn2", "GET", subject.path)) as Properties;
          const config = { ...(object["config"] as Properties), "user.foreign": FOREIGN };
          await lab.byHand("bcn2", "PUT", subject.path, { ...object, config });
        }
      };

      const first = await withSecretsOf("first");
      const second = await withSecretsOf("second");
      assert.equal(await managed.up(first), "created");
      look(first);
      await addForeign();
      await managed.preview(first);
      look(first);
      await managed.up(first);
      look(first);
      await addForeign();
      await upQuoted(second);
      const adoption = "adopt" in schema.shape ? { adopt: true } : {};
      const adopting = { ...second, ...adoption };
      await addForeign();
      managed.state = undefined; // lost
      await managed.preview({ ...first, ...adoption });
      look(adopting);
      await managed.up({ ...first, ...adoption });
      look({ ...first, ...adoption });
    });
  }
});
