import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { RealLab } from "../../lab/real/index";
import { disconnectAll } from "../../provider/transport/pool";
import { isSample } from "../support/real-lab";
import { ChangeWatch } from "./support/changes";
import { eventually } from "./support/eventually";
import { runInGuest } from "./support/guest-commands";
import { statesOnceHeard } from "./support/member-states";
import { Backend, labConfig, type Project, type StackConfigFile } from "./support/project";

/** The lab's stack on real LXD. The tests run in order: each continues from the one before. */
describe("The lab's stack on real LXD", () => {
  const backend = new Backend();
  let config: StackConfigFile;
  let lab: RealLab;
  let stack: Project;

  /** Runs the server's client on the primary. Returns its output. */
  const lxc = async (...argv: string[]): Promise<string> => {
    const { stdout, stderr, exitCode } = await lab.hostExec("bcn2", [lab.flavour.client, ...argv]);
    assert.equal(exitCode, 0, `lxc ${argv.join(" ")}: ${stderr}`);
    return stdout.trim();
  };
  /**
   * Process id of each instance; a changed one means a restart. LXD reports none for a member without a recent
   * heartbeat.
   */
  const pids = async (): Promise<string> => {
    await statesOnceHeard(lab, "bcn2");
    return lxc("list", "--format=csv", "--columns=np");
  };
  const guest = async (vm: string, ...argv: string[]): Promise<string> => (await runInGuest(lab, vm, ...argv)).trim();
  const login = (address: string, command = "true"): ReturnType<RealLab["workstationExec"]> =>
    lab.workstationExec(["ssh", "-o", "StrictHostKeyChecking=accept-new", `thinkube@${address}`, command]);
  const assertNoChange = async (): Promise<void> => assert.deepEqual(await stack.up({ expectNoChanges: true }), []);

  before(async () => {
    lab = await RealLab.attach();
    config = labConfig(lab.flavour);
    stack = await backend.project({ file: "Pulumi.yaml", main: "stacks/index.ts", stack: "lab", config });
  });

  after(async () => {
    await disconnectAll();
    backend.remove();
  });

  it("is created from bare hosts by one up", async () => {
    for (const host of ["bcn2", "bcn1"]) {
      assert.notEqual((await lab.hostExec(host, ["test", "-e", lab.flavour.daemon])).exitCode, 0, `${host} has LXD already`);
    }
    const steps = await stack.up();
    assert.ok(steps.every(({ op }) => op === "create"));
    assert.deepEqual(await statesOnceHeard(lab, "bcn2"), { bcn1: "Online", bcn2: "Online" });
    assert.equal(await lxc("list", "--format=csv", "--columns=nsL"), "dns1,RUNNING,bcn2\ntkw1,RUNNING,bcn1");
    assert.match(await lxc("network", "show", "lxdbr0"), /ipv4\.address: 192\.168\.100\.1\/24/);
    assert.doesNotMatch(await lxc("query", "/1.0/operations?recursion=1"), /"serverName"/, "a join token is left");
  });

  it("is unchanged by a second up, as LXD's events show", async () => {
    const watch = await ChangeWatch.start(lab, "bcn2");
    try {
      await assertNoChange();
      assert.deepEqual(await watch.stop(lab, "bcn2"), []);
    } finally {
      watch.end();
    }
  });

  for (const [vm, address] of [
    ["dns1", "192.168.1.100"],
    ["tkw1", "192.168.1.111"],
  ] as const) {
    it(`lets the managed user log in to ${vm} on its LAN address, and become root`, async () => {
      const { stdout, stderr, exitCode } = await login(address, "hostname; id -un; sudo -n id -un");
      assert.deepEqual({ stdout, exitCode }, { stdout: `${vm}\nthinkube\nroot\n`, exitCode: 0 }, stderr);
    });
  }

  {
    const KEYS = "/home/thinkube/.ssh/authorized_keys";
    const STRANGER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHN0cmFuZ2Vyc3RyYW5nZXJzdHJhbmdlcnN0cmFu stranger";
    const cases: readonly {
      what: string;
      name: string;
      op: string;
      change: () => Promise<unknown>;
      shown: RegExp;
      repaired: () => Promise<boolean>;
    }[] = [
      {
        what: "a profile's key",
        name: "profiles-vm-resources",
        op: "update",
        change: () => lxc("profile", "set", "vm-resources", "limits.cpu", "1"),
        shown: /~ limits\.cpu\s*: "1" => "2"/,
        repaired: async () => (await lxc("profile", "get", "vm-resources", "limits.cpu")) === "2",
      },
      {
        what: "a stopped VM",
        name: "vms-dns1",
        op: "update",
        change: () => lxc("stop", "dns1", "--force"),
        shown: /~ running\s*: false => true/,
        repaired: async () => (await lxc("list", "dns1", "--format=csv", "--columns=s")) === "RUNNING",
      },
      {
        what: "an additional key of a user",
        name: "vms-tkw1-thinkube",
        op: "update",
        change: () => guest("tkw1", "sh", "-c", `echo '${STRANGER}' >> ${KEYS}`),
        shown: /~ authorizedKeys[\s\S]*- \[1\][\s\S]*stranger/,
        repaired: async () => !(await guest("tkw1", "cat", KEYS)).includes("stranger"),
      },
      {
        what: "a key folder that others can write to, so that sshd refuses the keys",
        name: "vms-tkw1-thinkube",
        op: "update",
        change: () => guest("tkw1", "chmod", "777", "/home/thinkube/.ssh"),
        shown: /~ authorizedKeys/,
        repaired: async () => (await login("192.168.1.111")).exitCode === 0,
      },
      {
        what: "a deleted user",
        name: "vms-dns1-thinkube",
        op: "create",
        change: () => guest("dns1", "userdel", "--remove", "--force", "thinkube"),
        shown: /VmUser/,
        repaired: async () => (await guest("dns1", "sh", "-c", "sudo -l -U thinkube || true")).includes("NOPASSWD: ALL"),
      },
    ];
    // The test after these has drift of every type.
    for (const { what, name, op, change, shown, repaired } of isSample ? cases.slice(0, 1) : cases) {
      it(`shows ${what} in a preview, and repairs it`, async () => {
        await change();
        const { steps, text } = await stack.preview();
        assert.deepEqual(
          steps.map((step) => [step.op, step.name]),
          [[op, name]],
          text,
        );
        assert.match(text, shown);
        assert.equal(await repaired(), false, "the manual change did not last, so the test proves nothing");
        await stack.up();
        assert.equal(await repaired(), true);
        await assertNoChange();
      });
    }
  }

  it("shows drift of all types in one preview, repairs it by one up, and leaves foreign objects unchanged", async () => {
    const keys = "/home/thinkube/.ssh/authorized_keys";
    const cases: readonly { step: string; change: () => Promise<unknown>; repaired: () => Promise<boolean> }[] = [
      {
        step: "update LxdNode cluster-bcn1",
        change: () => lab.hostExec("bcn1", ["apt-get", "--yes", "remove", "btrfs-progs"]),
        repaired: async () => (await lab.hostExec("bcn1", ["which", "btrfs"])).exitCode === 0,
      },
      {
        step: "update LxdClusterMember cluster-bcn1",
        change: () =>
          lab.hostExec("bcn2", [
            "sh",
            "-c",
            `${lab.flavour.client} cluster show bcn1 | sed 's/^failure_domain: .*/failure_domain: rack9/' | ${lab.flavour.client} cluster edit bcn1`,
          ]),
        repaired: async () => (await lxc("cluster", "show", "bcn1")).includes("failure_domain: default"),
      },
      {
        step: "update LxdNetwork cluster-lxdbr0",
        // For a key that is not of the user, the server starts the bridge's dnsmasq again, and may fail on a host with much to do.
        change: () => lxc("query", "--request=PATCH", '--data={"description": "by hand"}', "/1.0/networks/lxdbr0"),
        repaired: async () => !(await lxc("query", "/1.0/networks/lxdbr0")).includes("by hand"),
      },
      {
        step: "update LxdImage cluster-debian-12",
        change: () => lxc("image", "alias", "delete", "debian-12"),
        repaired: async () => (await lxc("image", "alias", "list", "--format=csv", "debian-12")) !== "",
      },
      {
        step: "update LxdVm vms-dns1",
        change: () => lxc("config", "set", "dns1", "limits.memory", "300MiB"),
        repaired: async () => (await lxc("config", "get", "dns1", "limits.memory")) === "256MiB",
      },
      {
        step: "update VmUser vms-tkw1-thinkube",
        change: async () => {
          await guest("tkw1", "chmod", "666", keys); // sshd no longer accepts it
          await guest("tkw1", "usermod", "--shell", "/bin/sh", "thinkube");
        },
        repaired: async () =>
          (await guest("tkw1", "stat", "--format=%a %U", keys)) === "600 thinkube" &&
          (await guest("tkw1", "getent", "passwd", "thinkube")).endsWith(":/bin/bash"),
      },
    ];
    const mine = [
      ["storage", "default", "rsync.bwlimit", "10MB"],
      ["network", "lxdbr0", "user.note", "mine"],
      ["config", "tkw1", "image.note", "mine"],
      ["config", "tkw1", "user.pulumi.note", "mine"],
    ] as const;
    const before = await pids();
    for (const { change } of cases) {
      await change();
    }
    for (const [noun, name, key, value] of mine) {
      await lxc(noun, "set", name, `${key}=${value}`);
    }
    const { steps, text } = await stack.preview();
    const shown = steps.map(({ op, type, name }) => `${op} ${type} ${name}`);
    assert.deepEqual(shown.sort(), cases.map(({ step }) => step).sort(), text);
    assert.match(text, /~ memory\s*: "300MiB" => "256MiB"/);
    assert.match(text, /~ shell\s*: "\/bin\/sh" => "\/bin\/bash"/);
    await stack.up();
    for (const { step, repaired } of cases) {
      assert.equal(await repaired(), true, step);
    }
    for (const [noun, name, key, value] of mine) {
      assert.equal(await lxc(noun, "get", name, key), value);
    }
    assert.equal(await pids(), before, "an instance was restarted");
    await assertNoChange();
  });

  it("runs a VM of another project's stack, which finds the cluster by a stack reference", async () => {
    const publicKey = readFileSync(join(lab.home, ".ssh/id_ed25519.pub"), "utf8").trim();
    const tenant = await backend.project({
      file: "stacks/tenant/Pulumi.yaml",
      main: "stacks/tenant/index.ts",
      stack: "lab",
      config: {
        "lxd-tenant:clusterStack": "organization/lxd-cluster/lab",
        "lxd-tenant:vm": "guest1",
        "lxd-tenant:target": "bcn1",
        "lxd-tenant:instanceType": "container",
        "lxd-tenant:image": "debian-12",
        "lxd-tenant:publicKey": publicKey,
      },
    });
    await tenant.up();
    const { environment } = JSON.parse(await lxc("query", "/1.0")) as { environment: { certificate_fingerprint: string } };
    const { cluster } = (await stack.outputs()) as { cluster: { certificateFingerprint: string } };
    assert.equal(cluster.certificateFingerprint, environment.certificate_fingerprint);
    assert.equal(await lxc("list", "guest1", "--format=csv", "--columns=nsL"), "guest1,RUNNING,bcn1");
    assert.equal(await guest("guest1", "sudo", "-u", "tenant", "sudo", "-n", "id", "-un"), "root");
    const { addresses } = (await tenant.outputs()) as { addresses: { guest1: { eth0: { ipv4: string[] } } } };
    assert.match(addresses.guest1.eth0.ipv4[0] ?? "", /^192\.168\.100\./);
    assert.deepEqual(await tenant.up({ expectNoChanges: true }), []);
    await assertNoChange();
    await tenant.destroy();
    assert.equal(await lxc("list", "guest1", "--format=csv"), "");
  });

  it("adds a third host without touching anything else, and removes it again", async () => {
    const before = await pids();
    const hosts = config["lxd-cluster:hosts"] as StackConfigFile[];
    const third = { ...hosts[1], name: "bcn3", address: "192.168.1.103" };
    stack.configure({ ...config, "lxd-cluster:hosts": [...hosts, third] });
    const added = await stack.up();
    assert.deepEqual(added.map(({ op, type, name }) => [op, type, name]).sort(), [
      ["create", "LxdClusterMember", "cluster-bcn3"],
      ["create", "LxdNode", "cluster-bcn3"],
    ]);
    assert.equal((await statesOnceHeard(lab, "bcn2"))["bcn3"], "Online");
    assert.match(await lxc("storage", "show", "default"), /- bcn3/);
    await assertNoChange();

    const onThird = async (...argv: string[]): Promise<string> =>
      (await lab.hostExec("bcn3", [lab.flavour.client, ...argv])).stdout.trim();
    assert.equal(await onThird("config", "get", "core.https_address"), "192.168.1.103:8443");
    await onThird("config", "set", "core.debug_address", "127.0.0.1:8444");
    stack.configure(config);
    const removed = await stack.up();
    assert.deepEqual(removed.map(({ op, type, name }) => [op, type, name]).sort(), [
      ["delete", "LxdClusterMember", "cluster-bcn3"],
      ["delete", "LxdNode", "cluster-bcn3"],
    ]);
    assert.doesNotMatch(await lxc("cluster", "list", "--format=csv"), /bcn3/);
    assert.equal(await onThird("storage", "list", "--format=csv"), "");
    assert.equal(
      await onThird("config", "get", "core.debug_address"),
      "127.0.0.1:8444",
      "its own config is removed with the membership",
    );
    assert.equal(await onThird("config", "get", "core.https_address"), "", "it still listens for its former membership");
    assert.equal(await pids(), before, "a VM was restarted");
    await assertNoChange();
  });

  it("names a host that is off, and plans nothing for it", async () => {
    await lab.powerOff("bcn1");
    const { text, steps } = await stack.failingPreview();
    assert.match(text, /root@192\.168\.1\.101 cannot be reached by SSH/);
    assert.deepEqual(
      steps.filter(({ op }) => op.includes("delete") || op.includes("replace")),
      [],
    );
    await lab.boot("bcn1");
    await eventually("bcn1 and its VM are back", async () =>
      /^tkw1,RUNNING/.test(await lxc("list", "tkw1", "--format=csv", "--columns=ns")),
    );
    await assertNoChange();
  });

  it("keeps no secret in state", async () => {
    const state = await stack.exportState();
    assert.doesNotMatch(state, /PRIVATE KEY|"secret":|eyJzZXJ2/);
    assert.match(state, /load\(path\)\.provider\(/);
  });

  /**
   * LXD's objects on a host outside LXD itself. Loop devices belong to the machine: only those of the host's own file
   * system count.
   */
  const tracesOn = async (host: string): Promise<string> => {
    const script =
      `ip -brief link show lxdbr0 2>/dev/null; losetup --list --noheadings --output BACK-MAJ:MIN,BACK-FILE | grep "^ *$(mountpoint -d /) .*${lab.flavour.dataDirectory}"; ` +
      `findmnt -rn | grep ${lab.flavour.dataDirectory}/storage-pools/`;
    return (await lab.hostExec(host, ["sh", "-c", script])).stdout;
  };

  it("leaves clean hosts after destroy, and can be created again", async () => {
    assert.match(await tracesOn("bcn2"), /^lxdbr0 .*default\.img.*storage-pools/s);
    await stack.destroy();
    for (const host of ["bcn2", "bcn1"]) {
      const holds = await lab.hostExec(host, [
        "sh",
        "-c",
        `for noun in "" storage image; do ${lab.flavour.client} $noun list -f csv; done; ${lab.flavour.client} cluster list 2>&1`,
      ]);
      assert.match(holds.stdout, /^Error: (LXD server|Server) isn't part of a cluster\s*$/);
      assert.equal(await tracesOn(host), "");
    }
    await stack.up();
    await assertNoChange();
    await stack.destroy();
  });
});
