/**
 * States as earlier versions wrote them, in `states/`: one file for each version whose state differs from the one before. They are never
 * edited. Before a release that changes what is in state, with its version: `RECORD_STATE=0.2.0.json npx mocha test/engine/state-versions.test.ts`.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Deployment } from "@pulumi/pulumi/automation";
import { SimulatedLab } from "../../lab/simulated";
import { provider } from "../../provider/entry";
import { readMark, writeMark } from "../../provider/lxd/ownership";
import { IMAGE_SERVER, REMOTE_IMAGES } from "../support/remote-images";
import { TWO_HOSTS } from "../support/two-hosts";
import { type ClusterProgram, clusterProgram } from "./cluster-program";
import { EngineStack } from "./workspace";

const FOLDER = join(__dirname, "states");
const PASSWORD_HASH = "$6$saltsalt$qRPK7m23GJusamGpoGLby.Jw2RWzHdMjLgDPvZ8Jc0kNvCbAC7YOK3sXZ3jX2c8O4gDg6IWDRuO2OJ6j8q.M/";

/** What was recorded beside the usual program, by the name of the file, as a program says it today. */
const MORE: Readonly<Record<string, ClusterProgram>> = {
  "0.1.0-member-config-and-remote-image.json": {
    member: { memberConfig: { pools: { default: { source: "" } }, networks: { lxdbr0: { "bgp.ipv4.nexthop": "10.0.0.1" } } } },
    image: { source: { server: IMAGE_SERVER, alias: "24.04" }, instanceType: "container", aliases: ["ubuntu"] },
  },
};

function programOf(lab: SimulatedLab, file: string, { cpu }: { cpu: number }): () => void {
  return clusterProgram(lab, {
    ...MORE[file],
    connection: { privateKey: undefined, privateKeyPath: lab.privateKeyPath }, // by reference: no secret of the lab is in a file
    vms: { web1: { cpu }, web2: {} },
    user: { passwordHash: PASSWORD_HASH, uid: 1200 },
  });
}

/** What differs from lab to lab, and the words that stand for it in a file. */
function placeholders(lab: SimulatedLab): [string, string][] {
  const ofHosts = lab.hosts.flatMap(({ name, address, port, hostKey }): [string, string][] => [
    [`${address}:${port}`, `{{address of ${name}}}`],
    [`"port": ${port}`, `"port": "{{port of ${name}}}"`],
    [hostKey, `{{host key of ${name}}}`],
  ]);
  return [...ofHosts, [join(lab.knownHostsPath, ".."), "{{folder}}"]];
}

/** Where in a program a resource was made is nothing that a later version reads. */
function withoutSources(key: string, value: unknown): unknown {
  return key === "sourcePosition" || key === "stackTrace" ? undefined : value;
}

function record(lab: SimulatedLab, file: string, deployment: Deployment): void {
  const text = placeholders(lab).reduce(
    (written, [real, placeholder]) => written.replaceAll(real, placeholder),
    JSON.stringify(deployment, withoutSources, 2),
  );
  writeFileSync(join(FOLDER, file), `${text}\n`);
}

function recorded(lab: SimulatedLab, file: string): Deployment {
  const text = placeholders(lab).reduce(
    (written, [real, placeholder]) => written.replaceAll(placeholder, real),
    readFileSync(join(FOLDER, file), "utf8"),
  );
  assert.doesNotMatch(text, /\{\{/);
  // The cluster that it was written of had another certificate than that of the lab.
  const [, certificate] = /LxdClusterMember"[^]*?"certificateFingerprint": "(\w{64})"/.exec(text) ?? [];
  assert(certificate !== undefined);
  return JSON.parse(text.replaceAll(certificate, lab.host("bcn2").daemon?.database.certificate?.fingerprint ?? "")) as Deployment;
}

/** Gives what was made the marks that the earlier version gave it: with the claims that its state has, or without where it knew none. */
function markAs(lab: SimulatedLab, earlier: Deployment): void {
  const { resources } = earlier.deployment as { resources: { urn: string; outputs?: Record<string, string> }[] };
  const claims = new Map(resources.map(({ urn, outputs }) => [urn, outputs?.["__claim"]]));
  const database = lab.host("bcn2").daemon?.database;
  assert(database !== undefined);
  const { members, pools, networks, profiles, instances, images } = database;
  const owned = [members, pools.values(), networks.values(), profiles.values(), instances.values()].flatMap((kind) => [...kind]);
  let count = 0;
  for (const config of [...owned.map((object) => object.config), ...[...images.values()].map(({ properties }) => properties)]) {
    for (const [key, value] of Object.entries(config).filter(([name]) => name.startsWith("user.pulumi."))) {
      const { urn = "" } = readMark(value) ?? {};
      config[key] = writeMark({ urn, claim: claims.get(urn), isCreating: false });
      count++;
    }
  }
  assert.equal(count, resources.filter(({ urn }) => /:Lxd(?!Node)\w+::|:VmUser::/.test(urn)).length); // a node has no mark
}

describe("a state of an earlier version", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;

  /** Makes what the file has, so that its state is that of something. */
  async function make(file: string): Promise<void> {
    lab = await SimulatedLab.start({
      hosts: TWO_HOSTS,
      remoteImages: REMOTE_IMAGES,
    });
    stack = await EngineStack.open();
    stack.define(programOf(lab, file, { cpu: 1 }));
    const { ok, text } = await stack.up();
    assert.ok(ok, text);
  }

  afterEach(async () => {
    stack.close();
    await lab.stop();
    assert.deepEqual(lab.defects, []);
  });

  const recording = process.env["RECORD_STATE"];
  if (recording !== undefined) {
    it(`is recorded: ${recording}`, async () => {
      await make(recording);
      record(lab, recording, await stack.export());
      assert.ok(recorded(lab, recording));
    });
  }

  const files = readdirSync(FOLDER).filter((file) => file.endsWith(".json"));
  assert.ok(files.length > 0);

  for (const file of files) {
    it(`${file}: is read, refreshed, updated and destroyed without a replacement`, async () => {
      await make(file);
      const earlier = recorded(lab, file);
      await stack.import(earlier);
      markAs(lab, earlier);
      const kinds = new Set((await stack.resources()).map(({ type }) => type.split(":").at(-1) ?? ""));
      assert.ok(kinds.size > 0);
      for (const kind of kinds) {
        assert.ok(provider(kind));
      }
      const since = lab.requests.length;
      const preview = await stack.preview();
      assert.ok(preview.ok, preview.text);
      assert.deepEqual(
        preview.steps.filter(({ op }) => op !== "refresh"),
        [],
        preview.text,
      );
      assert.deepEqual(lab.mutations(since), []);

      stack.define(programOf(lab, file, { cpu: 2 }));
      const up = await stack.up();
      assert.ok(up.ok, up.text);
      assert.deepEqual(
        up.steps.filter(({ op }) => op !== "refresh").map(({ op, type, name }) => `${op} ${type} ${name}`),
        ["update LxdVm web1"],
      );

      const destroy = await stack.destroy();
      assert.ok(destroy.ok, destroy.text);
      assert.deepEqual(await stack.resources(), []);
    });
  }
});
