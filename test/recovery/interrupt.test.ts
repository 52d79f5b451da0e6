import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { SimulatedLab } from "../../lab/simulated";
import { eventually } from "../acceptance/support/eventually";
import { Backend, type Project, repositoryConfig, type StackConfigFile } from "../acceptance/support/project";
import { isAlive, type PulumiProcess } from "../support/pulumi-process";
import { TWO_HOSTS } from "../support/two-hosts";

const UP = ["up", "--yes", "--skip-preview"];

const TIMINGS = { operationMs: 400, daemonStartMs: 200, addressMs: 400, agentMs: 400 };

/** An installation lasts until the test ends it. */
const UNTIL_ENDED = 3_600_000;

const LOCKED = /error: the stack is currently locked by 1 lock\(s\)\..*delete the lock file with `pulumi cancel`/;

/** Resources of the stack. */
const WHOLE = [
  "LxdClusterMember cluster-bcn1",
  "LxdClusterMember cluster-bcn2",
  "LxdImage cluster-debian-12",
  "LxdNetwork cluster-lxdbr0",
  "LxdNode cluster-bcn1",
  "LxdNode cluster-bcn2",
  "LxdProfile profiles-vm-networks",
  "LxdProfile profiles-vm-resources",
  "LxdStoragePool cluster-default",
  "LxdVm vms-dns1",
  "LxdVm vms-tkw1",
  "VmUser vms-dns1-thinkube",
  "VmUser vms-tkw1-thinkube",
];

interface StateResource {
  readonly urn: string;
  readonly type: string;
}

interface Deployment {
  readonly resources?: readonly StateResource[];
  readonly pending_operations?: readonly { readonly type: string; readonly resource: StateResource }[];
}

const nameOf = ({ urn, type }: StateResource): string => `${type.split(":").at(-1) ?? ""} ${urn.split("::").at(-1) ?? ""}`;

/** The repository's own stack, run by the real CLI on a terminal and interrupted by Ctrl-C. */
describe("Ctrl-C during pulumi up", () => {
  let lab: SimulatedLab;
  let backend: Backend;
  let stack: Project;

  beforeEach(async () => {
    lab = await SimulatedLab.start({
      hosts: TWO_HOSTS,
      timings: TIMINGS,
    });
    backend = new Backend();
    stack = await backend.project({ file: "Pulumi.yaml", main: "stacks/index.ts", stack: "lab", config: configFor(lab) });
  });

  afterEach(async () => {
    backend.remove();
    await lab.stop();
    assert.deepEqual(lab.defects, []);
  });

  /** Runs a command to its end. Returns its screen. */
  const type = async (...argv: string[]): Promise<string> => {
    const pulumi = stack.start(argv);
    const status = await pulumi.ended;
    assert.equal(status, 0, `pulumi ${argv.join(" ")}:\n${pulumi.screen}`);
    return pulumi.screen;
  };

  const showsInstallation = async (up: PulumiProcess): Promise<void> => {
    for (const host of ["bcn2", "bcn1"]) {
      await up.shows(new RegExp(`LxdNode cluster-${host} creating .* installing the Debian packages`));
    }
  };

  const resources = async (): Promise<string[]> =>
    ((await deployment()).resources ?? [])
      .filter(({ type: kind }) => kind.includes("/lxd:"))
      .map(nameOf)
      .sort();

  const pendingOperations = async (): Promise<string[]> =>
    ((await deployment()).pending_operations ?? []).map(({ type: doing, resource }) => `${doing} ${nameOf(resource)}`).sort();

  const deployment = async (): Promise<Deployment> =>
    (JSON.parse(await stack.exportState()) as { deployment: Deployment }).deployment;

  const assertWhole = async (): Promise<void> => {
    assert.deepEqual(await resources(), WHOLE);
    assert.deepEqual(await pendingOperations(), []);
    const since = lab.requests.length;
    await type(...UP, "--expect-no-changes");
    assert.deepEqual(lab.mutations(since), []);
  };

  it("once lets the running steps finish, and starts nothing new", async () => {
    lab.timings.installMs = UNTIL_ENDED;
    const up = stack.start(UP, { terminal: true });
    await showsInstallation(up);
    const { provider } = up;
    up.pressCtrlC();
    await up.shows(/press \^C again/);
    lab.timings.installMs = 0;
    assert.notEqual(await up.ended, 0);
    assert.match(up.screen, /\^C received; cancelling\. If you would like to terminate immediately, press \^C again\./);
    assert.match(up.screen, /error: update canceled/);
    assert.deepEqual(await resources(), ["LxdNode cluster-bcn1", "LxdNode cluster-bcn2"]);
    assert.deepEqual(await pendingOperations(), []);
    assert.equal(isAlive(provider), false);
    for (const { name } of lab.hosts) {
      assert.equal(
        ((await lab.byHand(name, "GET", "/1.0")) as { environment: { server_clustered: boolean } }).environment.server_clustered,
        false,
      );
    }

    await type(...UP);
    await assertWhole();
  });

  it("twice ends at once, and the next up continues", async () => {
    // bcn1 joins, but its answer never arrives.
    const join = { host: "bcn1", method: "PUT", path: /^\/1\.0\/cluster$/ };
    const fault = lab.faults.add({ when: join, effect: { answer: () => undefined } });
    const up = stack.start(UP, { terminal: true });
    await up.shows(/LxdClusterMember cluster-bcn1 creating .* joining bcn1/);
    await eventually("bcn1 has the join request", async () => fault.hits > 0);
    const { provider } = up;
    up.pressCtrlC();
    await up.shows(/press \^C again/);
    const pressed = performance.now();
    up.pressCtrlC();
    assert.notEqual(await up.ended, 0);
    fault.remove();
    const seconds = (performance.now() - pressed) / 1000;
    assert.ok(seconds < 60, `it took ${seconds} s`); // the interrupted work would take minutes
    assert.match(up.screen, /\^C received; terminating/);
    assert.match(up.screen, /LxdClusterMember cluster-bcn1 creating \(interrupted\)/);
    assert.equal(isAlive(provider), false);
    assert.deepEqual(await pendingOperations(), ["creating LxdClusterMember cluster-bcn1"]);

    await type(...UP);
    await type("refresh", "--clear-pending-creates", "--yes", "--skip-preview");
    await assertWhole();
  });

  it("is not needed to end the provider process of a killed Pulumi", async () => {
    lab.timings.installMs = UNTIL_ENDED;
    const up = stack.start(UP);
    await showsInstallation(up);
    const { engine, provider } = up;
    const others = up.tree().filter(({ pid }) => pid !== engine && pid !== provider);
    process.kill(engine, "SIGKILL");
    try {
      await up.ended;
      await eventually("the provider process has ended too", async () => !isAlive(provider));
      lab.timings.installMs = 0;
      const again = stack.start(UP);
      assert.notEqual(await again.ended, 0);
      assert.match(again.screen, LOCKED);
      await type("cancel", "--yes");
      const screen = await type(...UP, "--refresh=false"); // as if Pulumi.yaml did not say `refresh: always`
      assert.match(screen, /with 2 pending operations from previous deployment/);
      assert.match(screen, /These resources are in an unknown state/);
      assert.deepEqual(await pendingOperations(), ["creating LxdNode cluster-bcn1", "creating LxdNode cluster-bcn2"]);
      await type("refresh", "--clear-pending-creates", "--yes", "--skip-preview");
      await assertWhole();
    } finally {
      // Pulumi's language host outlives a killed Pulumi for some minutes.
      others.filter(({ pid }) => isAlive(pid)).forEach(({ pid }) => process.kill(pid, "SIGKILL"));
    }
  });
});

/** `Pulumi.lab.yaml`, with simulated hosts instead of the lab's. */
function configFor(lab: SimulatedLab): StackConfigFile {
  const folder = join(lab.knownHostsPath, "..");
  const files = { metadataPath: join(folder, "metadata.tar.xz"), rootfsPath: join(folder, "rootfs.squashfs") };
  Object.values(files).forEach((file) => writeFileSync(file, "simulated\n"));
  const publicKey = join(folder, "id_ed25519.pub");
  writeFileSync(publicKey, `${lab.publicKey}\n`);
  const config = repositoryConfig("Pulumi.lab.yaml");
  const hosts = config["lxd-cluster:hosts"] as (StackConfigFile & { name: string })[];
  const defaults = config["lxd-cluster:vmDefaults"] as StackConfigFile;
  return {
    ...config,
    "lxd-cluster:hosts": hosts.map((host) => {
      const { address, port, hostKey } = lab.host(host.name);
      return { ...host, connection: { user: "root", host: address, port, hostKey, privateKeyPath: lab.privateKeyPath } };
    }),
    "lxd-cluster:images": { "debian-12": files },
    "lxd-cluster:vmDefaults": {
      ...defaults,
      users: [{ name: "thinkube", sudo: "passwordless", authorizedKeyFiles: [publicKey] }],
    },
  };
}
