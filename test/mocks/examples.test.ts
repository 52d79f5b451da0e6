import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { compileFunction } from "node:vm";
import * as pulumi from "@pulumi/pulumi";
import { utils } from "ssh2";
import ts from "typescript";
import * as components from "../../components/index";
import { SimulatedLab } from "../../lab/simulated";
import { makeCertificate } from "../../lab/simulated/lxd/certificate";
import { provider } from "../../provider/entry";
import * as resources from "../../provider/index";
import { disconnectAll } from "../../provider/transport/pool";
import { REMOTE_IMAGES } from "../support/remote-images";
import { withHome } from "./home";

const ROOT = join(__dirname, "../..");
const load = createRequire(join(ROOT, "index.ts"));
const PUBLIC_KEY = utils.generateKeyPairSync("ed25519").public;
const IMAGE_SERVER = "https://cloud-images.ubuntu.com/releases/";

/** The hosts of the examples, by the addresses that they have there. */
const HOSTS: Readonly<Record<string, string>> = {
  "192.168.1.102": "bcn2",
  "192.168.1.101": "bcn1",
  "192.168.1.103": "bcn3",
  "10.0.0.12": "behind",
};

/** What a reader puts in the place of what an example leaves open. */
const REPLACED: readonly [RegExp, string][] = [
  [/ssh-ed25519 AAAA\.\.\. \S+?(?=")/g, PUBLIC_KEY],
  [/certificateFingerprint: "032b9841\.\.\.", /g, ""], // of a cluster that exists
];

/** What an example takes for granted, by the names that it uses and does not declare. In the order in which they need each other. */
const GIVEN: Readonly<Record<string, string>> = {
  publicKey: `const publicKey = "${PUBLIC_KEY}";`,
  ciCertificate: `const ciCertificate = ${JSON.stringify(makeCertificate("ci").pem)};`,
  readFileSync: `const readFileSync = () => "${PUBLIC_KEY}";`,
  hosts:
    'const hosts = ["2", "1"].map((n) => ({ name: "bcn" + n, address: "192.168.1.10" + n, connection: { host: "192.168.1.10" + n } }));',
  bcn2: 'const bcn2 = new LxdNode("bcn2", { connection: { host: "192.168.1.102" } });',
  bcn1: 'const bcn1 = new LxdNode("bcn1", { connection: { host: "192.168.1.101" } });',
  cluster: `
    const world = new LxdCluster("world", {
      hosts: ["2", "1"].map((n) => ({ name: "bcn" + n, address: "192.168.1.10" + n, connection: { host: "192.168.1.10" + n } })),
      pools: { default: { driver: "dir" } },
      networks: OWN_NETWORK ? {} : { lxdbr0: {} },
    });
    const common = new LxdProfile("common", { cluster: world, name: "default", devices: {
      root: { type: "disk", path: "/", pool: "default" },
      ...(OWN_NETWORK ? {} : { eth0: { type: "nic", network: "lxdbr0", name: "eth0" } }),
    } });
    const cluster = pulumi.all([world.connection, common.urn]).apply(([connection]) => connection);`,
  profiles: 'const profiles = new VmProfiles("profiles", { cluster });',
  web1: 'const web1 = new LxdVm("web1", { cluster, name: "web1", image: { alias: "debian-12" } });',
};

interface Example {
  readonly title: string;
  readonly program: string;
}

function filesIn(folder: string, ending: string): string[] {
  const names = readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(ending));
  return names.map((name) => join(folder, name));
}

/** Every block of TypeScript in the documents and in the docstrings of what the package exports. */
function examples(): Example[] {
  const documents = ["README.md", ...filesIn("docs", ".md"), ...filesIn("docs/guide", ".md"), ...filesIn("docs/adr", ".md")];
  const sources = [...filesIn("provider/resources", ".ts"), ...filesIn("components", ".ts")];
  return [...documents, ...sources].flatMap((file) => {
    const text = readFileSync(join(ROOT, file), "utf8");
    const blocks = file.endsWith(".ts")
      ? [...text.matchAll(/^ \* ```typescript\n((?: \*.*\n)*?) \* ```/gm)].map(([, block = ""]) => block.replace(/^ \* ?/gm, ""))
      : [...text.matchAll(/^```typescript\n([\s\S]*?)^```/gm)].map(([, block = ""]) => block);
    return blocks.map((program, index) => ({ title: `${file}, ${index + 1}`, program }));
  });
}

/** The example with what it takes for granted before it. */
function complete(program: string): string {
  const own = REPLACED.reduce((text, [open, value]) => text.replace(open, value), program);
  if (/^import /m.test(own)) {
    return own;
  }
  const needed: string[] = [];
  for (const [name, text] of Object.entries(GIVEN).reverse()) {
    const all = [...needed, own].join("\n");
    if (new RegExp(`(?<![.\\w"])${name}\\b(?!:|")`).test(all) && !new RegExp(`const (\\{ )?${name}\\b`).test(own)) {
      needed.unshift(text);
    }
  }
  const classes = (exported: object): string => Object.keys(exported).join(", ");
  return [
    'import * as pulumi from "@pulumi/pulumi";',
    `import { ${classes(resources)} } from "pulumi-lxd-cluster";`,
    `import { ${classes(components)} } from "pulumi-lxd-cluster/components";`,
    `const OWN_NETWORK = ${own.includes('LxdNetwork("lxdbr0"')};`,
    ...needed,
    own,
  ].join("\n");
}

const SECRET_MARK = "4dabf18193072939515e22adb298388d";

/** Inputs with their secrets in the open, and with the connections of simulated hosts in the place of those of the example. */
function reaching(lab: SimulatedLab, value: unknown): unknown {
  if (value === null || typeof value !== "object") {
    return value;
  }
  if (Array.isArray(value)) {
    return value.map((member) => reaching(lab, member));
  }
  const map = value as Record<string, unknown>;
  if (SECRET_MARK in map) {
    return reaching(lab, map["value"]);
  }
  const host = typeof map["host"] === "string" ? HOSTS[map["host"]] : undefined;
  return host === undefined
    ? Object.fromEntries(Object.entries(map).map(([key, member]) => [key, reaching(lab, member)]))
    : lab.host(host).connection;
}

/** Runs an example: each resource is checked and created on simulated hosts, in the order in which Pulumi registers them. */
async function run(lab: SimulatedLab, program: string): Promise<string[]> {
  const created: string[] = [];
  const failures: string[] = [];
  let hasImages = false;
  await pulumi.runtime.setMocks(
    {
      newResource: async ({ type, name, inputs }) => {
        if (!type.startsWith("pulumi-nodejs:dynamic/lxd:")) {
          return { id: name, state: inputs as object };
        }
        const kind = type.slice(type.lastIndexOf(":") + 1);
        try {
          if (kind === "LxdVm" && !hasImages) {
            hasImages = true;
            for (const alias of ["debian-12", "24.04"].filter((each) => !program.includes(`aliases: ["${each}"]`))) {
              lab.seedImage("bcn2", { alias, type: "virtual-machine" });
            }
          }
          const checked = await provider(kind).check({}, reaching(lab, inputs) as Record<string, unknown>);
          assert.deepEqual(checked.failures, []);
          const { id, outs } = await provider(kind).create(checked.inputs);
          created.push(`${kind} ${name}`);
          return { id, state: outs };
        } catch (error) {
          failures.push(`${kind} ${name}: ${error instanceof Error ? error.message : String(error)}`);
          return { id: name, state: inputs as object };
        }
      },
      call: () => ({}),
    },
    "test",
    "test",
    false,
  );
  pulumi.runtime.setAllConfig({
    "test:trustPassword": "correct horse battery",
    "test:aliceHash": "$6$saltsalt$qRPK7m23GJusamGpoGLby.Jw2RWzHdMjLgDPvZ8Jc0kNvCbAC7YOK3sXZ3jX2c8O4gDg6IWDRuO2OJ6j8q.M/",
  });
  const { outputText } = ts.transpileModule(program, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 },
  });
  const own: Readonly<Record<string, unknown>> = { "pulumi-lxd-cluster": resources, "pulumi-lxd-cluster/components": components };
  const require = (path: string): unknown => own[path] ?? load(path);
  const main = compileFunction(outputText, ["require", "exports"]) as (
    require: (path: string) => unknown,
    exported: object,
  ) => void;
  main(require, {});
  await pulumi.runtime.disconnect();
  await disconnectAll();
  assert.deepEqual(failures, []);
  return created;
}

describe("The examples of the documents and docstrings run on simulated hosts:", () => {
  withHome({ "images/debian-12/metadata.tar.gz": "metadata", "images/debian-12/rootfs.squashfs": "rootfs" });
  let lab: SimulatedLab;

  const start = async (program: string): Promise<void> => {
    const server = program.includes('server: "incus"') ? { flavour: "trixie-incus7" as const } : { snapd: true };
    const hosts = Object.entries(HOSTS).map(([lanAddress, name]) => ({
      name,
      lanAddress,
      ...server,
      disks: ["/dev/sdb", "/dev/nvme1n1"],
    }));
    const remoteImages = REMOTE_IMAGES.map((image) => ({ ...image, server: IMAGE_SERVER }));
    lab = await SimulatedLab.start({ hosts, remoteImages });
    for (const { interfaces } of lab.hosts) {
      for (const name of ["eno1", "enp3s0"]) {
        interfaces.set(name, { type: "physical", hwaddr: "52:54:00:00:02:01", addresses: [] });
      }
    }
  };

  afterEach(async () => {
    await lab.stop();
    assert.deepEqual(lab.defects, []);
  });

  const all = examples();
  assert.ok(all.length >= 18, `only ${all.length} examples were found`);
  for (const { title, program } of all) {
    it(title, async () => {
      await start(program);
      const created = await run(lab, complete(program));
      const declared = [...program.matchAll(/new (Lxd\w+|(?:Vm|Host)(?:User|File|Service))\(\s*"([^"]+)"/g)].map(
        ([, kind, name]) => `${kind} ${name}`,
      );
      assert.deepEqual(
        declared.filter((each) => !each.startsWith("LxdCluster ") && !created.includes(each)),
        [],
      );
      assert.ok(created.length > 0);
    });
  }
});
