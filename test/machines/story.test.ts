import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MachineLab } from "../../lab/machines";
import type { Machine } from "../../lab/machines/machine";
import { LxdVm, VmUser } from "../../provider/index";
import { skip } from "../../tools/test/skip";
import { EngineStack, type Run } from "../engine/workspace";
import { isInLab } from "../support/real-lab";

const VM = "web";
const USER = "ops";
/** An emulated virtual machine on a busy machine boots in minutes. */
const TIMEOUT_SECONDS = 1200;

/** The real CLI, and a real virtual machine with its agent. The tests run in order: each continues from the one before. */
describe("A stack with a virtual machine on real LXD", function () {
  this.timeout(TIMEOUT_SECONDS * 1000);
  let lab: MachineLab;
  let machine: Machine;
  let stack: EngineStack;
  let program: { memory: string; allowRestart?: boolean };

  const assertOk = (run: Run): Run => {
    assert.ok(run.ok, run.text);
    return run;
  };
  const changesOf = ({ steps }: Run): string[] =>
    steps.filter(({ op }) => op !== "refresh").map(({ op, type, name }) => `${op} ${type} ${name}`);
  const inGuest = async (script: string): Promise<string> => {
    const { stdout, stderr, exitCode } = await machine.exec(["lxc", "exec", VM, "--", "sh", "-c", script]);
    assert.equal(exitCode, 0, stderr);
    return stdout.trim();
  };
  const statusOf = async (): Promise<string> => (await machine.run(`lxc list ${VM} --format=csv --columns=s </dev/null`)).trim();
  /** Logs in to the guest through its host, whose bridge it is on. */
  const login = async (command: string): Promise<string> => {
    const vm = (await stack.resources()).find(({ type }) => type.endsWith(":LxdVm"));
    const { eth0 } = vm?.outputs["addresses"] as { eth0: { ipv4: string[] } };
    const newKey = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
    const argv = ["ssh", "-J", machine.spec.name, ...newKey, `${USER}@${eth0.ipv4[0]}`, command];
    const { stdout, stderr, exitCode } = await lab.lab.workstationExec(argv);
    assert.equal(exitCode, 0, stderr);
    return stdout.trim();
  };

  before(async function () {
    if (!isInLab) {
      skip(this, "not in the workstation of machines: npx tsx lab/machines/cli.ts --vm run -- npx mocha ...");
    }
    stack = await EngineStack.open();
    lab = await MachineLab.attach();
    const [first] = lab.machines;
    assert.ok(first, "the lab has no machine");
    machine = first;
    // The virtual machine of the saved state would share the emulated processors.
    await machine.run('[ "$(lxc list v1 --format=csv --columns=s </dev/null)" = STOPPED ] || lxc stop --force v1 </dev/null');
    const key = join(lab.lab.home, ".ssh", "id_ed25519");
    const connection = { host: machine.spec.address, hostKey: machine.hostKey, privateKeyPath: key };
    const cluster = { endpoints: [connection] };
    stack.define(() => {
      const vm = new LxdVm(VM, {
        ...{ cluster, name: VM, instanceType: "virtual-machine", image: { alias: "vm" }, cpu: 1, ...program },
        rootDisk: { pool: "default", size: "300MiB" },
        waitFor: [{ for: "agent" }, { for: "ipv4", nic: "eth0" }],
        timeouts: { create: TIMEOUT_SECONDS, update: TIMEOUT_SECONDS },
      });
      const authorizedKeys = [readFileSync(`${key}.pub`, "utf8").trim()];
      new VmUser(USER, { cluster, instance: vm.name, name: USER, sudo: "passwordless", authorizedKeys });
    });
    program = { memory: "320MiB" };
  });

  after(() => {
    if (isInLab) {
      stack.close();
    }
  });

  it("creates it, and waits for its agent and address", async () => {
    assert.deepEqual(changesOf(assertOk(await stack.up())), [`create LxdVm ${VM}`, `create VmUser ${USER}`]);
    assert.equal(await statusOf(), "RUNNING");
    assert.match(await inGuest("uname -a"), /^Linux /);
  });

  it("changes nothing when nothing has changed", async () => {
    assert.deepEqual(assertOk(await stack.up()).steps, []);
  });

  it("lets the user log in by SSH, and become root", async () => {
    assert.equal(await login("id -un; sudo -n id -un"), `${USER}\nroot`);
  });

  it("shows what was changed in the guest, and repairs it", async () => {
    await inGuest(`: > /home/${USER}/.ssh/authorized_keys; rm /etc/sudoers.d/*${USER}*`);
    const preview = assertOk(await stack.preview());
    assert.deepEqual(changesOf(preview), [`update VmUser ${USER}`]);
    assert.match(preview.text, /~ authorizedKeys +: \[\s+\+ \[0\].*~ sudo +: "none" => "passwordless"/s);
    assertOk(await stack.up());
    assert.equal(await login("sudo -n id -un"), "root");
  });

  it("refuses a change that needs a stop, and the preview says so", async () => {
    program = { memory: "352MiB" };
    const refusal =
      /This change requires stopping the running instance "web"; nothing is changed.*limits\.memory.*allowRestart: true/s;
    const preview = assertOk(await stack.preview());
    assert.match(preview.messages.join("\n"), /^warning web: pulumi up will refuse this\. /m);
    assert.match(preview.messages.join("\n"), refusal);
    const up = await stack.up();
    assert.equal(up.ok, false, up.text);
    assert.match(up.text, refusal);
    assert.equal(await statusOf(), "RUNNING");
    assert.equal((await machine.run(`lxc config get ${VM} limits.memory </dev/null`)).trim(), "320MiB");
  });

  it("makes it with allowRestart", async () => {
    const before = await inGuest("cat /proc/sys/kernel/random/boot_id");
    program = { memory: "352MiB", allowRestart: true };
    assert.deepEqual(changesOf(assertOk(await stack.up())), [`update LxdVm ${VM}`]);
    assert.notEqual(await inGuest("cat /proc/sys/kernel/random/boot_id"), before);
    assert.equal((await machine.run(`lxc config get ${VM} limits.memory </dev/null`)).trim(), "352MiB");
    assert.equal(await login("sudo -n id -un"), "root");
  });

  it("removes it", async () => {
    assertOk(await stack.destroy());
    assert.equal(await statusOf(), "");
  });
});
