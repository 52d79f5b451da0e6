import assert from "node:assert/strict";
import { utils } from "ssh2";
import * as z from "zod";
import { differences } from "../../../provider/engine/state";
import { vmUserLifecycle } from "../../../provider/resources/machine-user";
import { Deadline, until } from "../../../provider/support/deadline";
import { killedAtTheEnd, Managed, type SimulatedCluster, startTwoMembers, startWithInstance } from "./simulated-cluster";

const key = (comment: string): string => utils.generateKeyPairSync("ecdsa", { bits: 256, comment }).public.trim();
const [laptop, desktop, stranger] = [key("laptop"), key("desktop"), key("stranger")];
const HASH = `$6$salt$${"h".repeat(40)}`;
const KEYS = "/home/alice/.ssh/authorized_keys";
const RULES = "/etc/sudoers.d/alice";

const shown = z.looseObject({ config: z.record(z.string(), z.string()), description: z.string() });

describe("VmUser", () => {
  let one: SimulatedCluster;
  let alice: Managed<never, never> & { state: Record<string, unknown> | undefined };

  const start = async (type: "container" | "virtual-machine" = "container"): Promise<void> => {
    one = await startWithInstance(type);
    alice = managed("alice");
  };
  const devices = { root: { type: "disk", path: "/", pool: "default" } };
  const makePool = async (targets: string[] = []): Promise<void> => {
    const lxd = await one.byHand();
    for (const target of [...targets, undefined]) {
      await lxd.change("POST", "/1.0/storage-pools", { query: { target }, body: { name: "default", driver: "dir" } });
    }
  };
  const managed = (name: string) => new Managed(vmUserLifecycle, name) as unknown as typeof alice;
  const args = (more: object = {}) => ({ cluster: one.cluster, instance: "web1", name: "alice", ...more });
  const files = () => one.lab.guestFiles("bcn2", "web1");
  const line = (path: string, user = "alice") =>
    files()
      .readText(path)
      .split("\n")
      .find((each) => each.startsWith(`${user}:`));
  const members = (group: string) => line("/etc/group", group)?.split(":")[3];
  const instance = async () => (await one.byHand()).get("/1.0/instances/web1", shown);
  const power = async (action: "start" | "stop"): Promise<void> => {
    await (await one.byHand()).change("PUT", "/1.0/instances/web1/state", { body: { action, timeout: 0 } });
  };

  beforeEach(() => start());
  afterEach(async () => {
    assert.deepEqual([one.lab.unknownGuestCommands, one.lab.defects], [[], []]);
    await one.stop();
  });

  const all = () => args({ groups: ["adm"], sudo: "passwordless", authorizedKeys: [laptop], passwordHash: HASH });

  it("is created with groups, sudo, keys and password, and unchanged by a second up", async () => {
    assert.equal(await alice.up(all()), "created");
    assert.equal(line("/etc/passwd")?.split(":").slice(5).join(), "/home/alice,/bin/bash");
    assert.equal(members("adm"), "alice");
    assert.match(files().readText(RULES), /^alice ALL=\(ALL:ALL\) NOPASSWD: ALL$/m);
    assert.equal(files().get(RULES)?.mode, 0o440);
    assert.equal(files().readText(KEYS), `${laptop}\n`);
    assert.equal(files().get(KEYS)?.uid, alice.state?.["uid"]);
    assert.equal(line("/etc/shadow")?.split(":")[1], HASH);
    assert.equal(alice.state?.["home"], "/home/alice");
    const before = one.lab.requests.length;
    assert.equal(await alice.up(all()), "same");
    assert.deepEqual(one.lab.mutations(before), []);
  });

  it("leaves nothing behind on the host or in the guest: no output, no temporary file", async () => {
    await alice.up(all());
    const logs = await (await one.byHand()).get("/1.0/instances/web1/logs", z.array(z.string()));
    assert.deepEqual(logs, []);
    assert.deepEqual(files().list("/run"), ["systemd"]);
    assert.deepEqual(files().list("/etc/sudoers.d").sort(), ["README", "alice"]);
  });

  for (const [property, change] of [
    [
      "shell",
      () =>
        files().writeFile(
          "/etc/passwd",
          files()
            .readText("/etc/passwd")
            .replace(/(alice.*):[^:\n]*$/m, "$1:/bin/sh"),
        ),
    ],
    ["groups", () => files().writeFile("/etc/group", files().readText("/etc/group").replace("adm:x:4:alice", "adm:x:4:"))],
    ["sudo", () => files().writeFile(RULES, "alice ALL=(ALL) NOPASSWD: /bin/ls\n")],
    ["sudo", () => files().remove(RULES)],
    ["authorizedKeys", () => files().writeFile(KEYS, `${laptop}\n${stranger}\n`)],
    ["authorizedKeys", () => files().remove(KEYS)],
    ["passwordHash", () => files().writeFile("/etc/shadow", files().readText("/etc/shadow").replace(HASH, "!"))],
  ] as const) {
    it(`shows and repairs ${property} after a manual change (${String(change).split(".")[1]?.split("(")[0] ?? ""})`, async () => {
      await alice.up(all());
      change();
      assert.equal(await alice.preview(all()), "updated");
      assert.deepEqual(differences(vmUserLifecycle, alice.state as never, (await checked(all())) as never), [property]);
      assert.equal(await alice.up(all()), "updated");
      assert.equal(await alice.preview(all()), "same");
      assert.deepEqual(
        [members("adm"), files().readText(KEYS), line("/etc/shadow")?.includes(HASH)],
        ["alice", `${laptop}\n`, true],
      );
    });
  }

  const inDirectory = { file: KEYS, ssh: "/home/alice/.ssh" };
  for (const [where, path] of Object.entries(inDirectory)) {
    for (const [what, spoil] of [
      ["belongs to another user", { uid: 1 }],
      ["belongs to a uid without a user", { uid: 4711 }],
      ["can be written by its group", { mode: 0o770 }],
      ["can be written by all", { mode: 0o707 }],
      ["cannot be read by the user", { uid: 0, gid: 0, mode: 0o600 }],
    ] as const) {
      it(`logins fail because ${where === "ssh" ? "~/.ssh" : "authorized_keys"} ${what}: the preview says so, and up repairs it`, async () => {
        await alice.up(all());
        Object.assign(files().get(path) ?? {}, spoil);
        assert.equal(await alice.preview(all()), "updated");
        assert.deepEqual(differences(vmUserLifecycle, alice.state as never, (await checked(all())) as never), ["authorizedKeys"]);
        assert.deepEqual(alice.warnings, []);
        assert.equal(await alice.up(all()), "updated");
        const uid = alice.state?.["uid"];
        const seen = Object.values(inDirectory).map((each) => [files().get(each)?.uid, files().get(each)?.mode]);
        assert.deepEqual(seen, [
          [uid, 0o600],
          [uid, 0o700],
        ]);
        assert.equal(await alice.preview(all()), "same");
      });
    }
  }

  for (const [spoil, fact, cure] of [
    [{ uid: 0, mode: 0o775 }, 'belongs to user "root", mode 775: others can write to it', "chmod go-w /home/alice"],
    [{ mode: 0o777 }, 'belongs to user "alice", mode 777: others can write to it', "chmod go-w /home/alice"],
    [{ uid: 1 }, 'belongs to user "daemon", mode 755', "chown alice /home/alice"],
  ] as const) {
    it(`logins fail because the home ${fact}: preview and up name it, and do not change it`, async () => {
      await alice.up(all());
      const home = files().get("/home/alice");
      const before = { ...home };
      Object.assign(home ?? {}, spoil);
      const told = `sshd ignores the keys of user "alice" in instance "web1" (LXD on ${one.lab.host("bcn2").connection.user}@`;
      assert.equal(await alice.preview(all()), "updated");
      assert.equal(alice.warnings.length, 1);
      assert.ok(alice.warnings[0]?.startsWith(`pulumi up will refuse this. ${told}`), alice.warnings[0]);
      assert.ok(alice.warnings[0]?.includes(`: /home/alice ${fact}. It must belong`), alice.warnings[0]);
      assert.ok(alice.warnings[0]?.endsWith(`Type there: ${cure}`), alice.warnings[0]);
      const asked = one.lab.requests.length;
      await assert.rejects(alice.up(all()), (error: Error) => error.message.startsWith(told) && error.message.endsWith(cure));
      assert.deepEqual(one.lab.mutations(asked), []);
      assert.deepEqual({ ...files().get("/home/alice") }, { ...before, ...spoil });
      assert.equal(await alice.preview(all()), "updated");
      Object.assign(home ?? {}, { uid: before.uid, mode: before.mode });
      assert.equal(await alice.preview(all()), "same");
    });
  }

  const checked = (given: object) => Promise.resolve(vmUserLifecycle.schema.parse(given));

  it("does not store a manually set password in state", async () => {
    await alice.up(all());
    files().writeFile("/etc/shadow", files().readText("/etc/shadow").replace(HASH, "$6$foreign$secret"));
    await alice.preview(all());
    assert.equal(alice.state?.["passwordHash"], "(changed outside of Pulumi)");
  });

  it("is created without the memberships of a former user with its name", async () => {
    const text = files().readText("/etc/group");
    files().writeFile("/etc/group", text.replace(/^(sudo:x:27:).*$/m, "$1alice"));
    assert.equal(members("sudo"), "alice");
    await alice.up(all());
    assert.deepEqual([members("sudo"), members("adm")], ["", "alice"]);
  });

  it("is recreated when it was removed manually, and gets its home back", async () => {
    await alice.up(args({ uid: 1500 }));
    for (const path of ["/etc/passwd", "/etc/shadow", "/etc/group"]) {
      files().writeFile(
        path,
        files()
          .readText(path)
          .replace(/^alice:.*\n/m, ""),
      );
    }
    assert.equal(await alice.preview(args()), "created");
    assert.equal(await alice.up(args()), "created");
    assert.equal(alice.state?.["uid"], 1500);
  });

  it("manages only its own keys when they are additive", async () => {
    const given = (keys: string[]) => args({ authorizedKeys: keys, authorizedKeysMode: "additive" });
    await alice.up(given([laptop, desktop]));
    files().writeFile(KEYS, `# by hand\n${stranger}\n${laptop}\n${desktop}\n`);
    assert.equal(await alice.up(given([laptop, desktop])), "same");
    assert.equal(await alice.up(given([desktop])), "updated");
    assert.equal(files().readText(KEYS), `# by hand\n${stranger}\n${desktop}\n`);
    files().writeFile(KEYS, `${stranger}\n`);
    assert.equal(await alice.up(given([desktop])), "updated");
    assert.equal(files().readText(KEYS), `${stranger}\n${desktop}\n`);
  });

  it("does not change what it does not manage", async () => {
    await alice.up(all());
    assert.equal(await alice.up(args()), "updated"); // sudo goes, for its default is none
    assert.equal(files().exists(RULES), false);
    assert.deepEqual([members("adm"), files().readText(KEYS)], ["alice", `${laptop}\n`]);
    files().writeFile(KEYS, `${stranger}\n`);
    assert.equal(await alice.up(args()), "same");
  });

  it("changes uid and home in place, and releases them when they are no longer set", async () => {
    await alice.up(args({ authorizedKeys: [laptop] }));
    assert.equal(await alice.up(args({ uid: 4242, home: "/home/a", authorizedKeys: [laptop] })), "updated");
    assert.equal(files().readText("/home/a/.ssh/authorized_keys"), `${laptop}\n`);
    assert.deepEqual([alice.state?.["uid"], alice.state?.["home"]], [4242, "/home/a"]);
    assert.equal(await alice.up(args({ authorizedKeys: [laptop] })), "updated");
    assert.equal(await alice.up(args({ authorizedKeys: [laptop] })), "same");
  });

  it("is replaced for another name, and keeps its home unless it is to be deleted", async () => {
    await alice.up(args());
    assert.equal(await alice.up(args({ name: "bob", homeOnDelete: "remove" })), "replaced");
    assert.deepEqual([line("/etc/passwd"), files().exists("/home/alice"), files().exists("/home/bob")], [undefined, true, true]);
    await alice.destroy();
    assert.equal(files().exists("/home/bob"), false);
  });

  it("marks what it owns on the instance, and removes the mark", async () => {
    await (await one.byHand()).change("PATCH", "/1.0/instances/web1", { body: { description: "front" } });
    await alice.up(args());
    const marked = await instance();
    assert.match(marked.config["user.pulumi.user.alice"] ?? "", /VmUser::alice \[[0-9a-f]{16}\]$/);
    assert.equal(marked.description, "front");
    await alice.destroy();
    assert.equal((await instance()).config["user.pulumi.user.alice"], undefined);
  });

  it("refuses a user that others created, and adopts it unchanged with adopt", async () => {
    await alice.up(args({ uid: 1234, home: "/home/old" }));
    const other = managed("other");
    await assert.rejects(
      other.up(args()),
      /User "alice" of instance "web1" already exists .* it belongs to the Pulumi resource "alice"/,
    );
    assert.equal(await other.up(args({ adopt: true })), "created");
    assert.deepEqual([other.state?.["uid"], other.state?.["home"]], [1234, "/home/old"]);
    assert.equal(await other.up(args({ adopt: true })), "same");
  });

  it("continues with a user of an interrupted create", async () => {
    const fault = one.lab.faults.add({
      when: { guest: /^mv .*sudoers/ },
      effect: { status: 1, error: "disk full" },
    });
    await assert.rejects(
      alice.up(all()),
      /User "alice" of instance "web1" exists, but is not finished: .*disk full.*The next pulumi up continues/,
    );
    assert.equal(typeof alice.state?.["uid"], "number");
    fault.remove();
    assert.equal(await alice.preview(all()), "updated");
    assert.equal(await alice.up(all()), "updated");
    assert.equal(await alice.up(all()), "same");
    await alice.destroy();
    await assert.rejects(new Managed(killedAtTheEnd(vmUserLifecycle) as never, "alice").up(all()), /killed/);
    assert.equal(await managed("alice").up(all()), "created");
  });

  it("can be read while a container is stopped, but not created, changed or removed", async () => {
    await alice.up(all());
    await power("stop");
    assert.equal(await alice.preview(all()), "same");
    const refusal = /needs instance "web1" to run, but on .* it is Stopped\./;
    await assert.rejects(alice.up(args()), refusal);
    await assert.rejects(managed("bob").up(args({ name: "bob" })), refusal);
    await assert.rejects(alice.destroy(), /Start it and try again\..*deletedWith/);
  });

  it("is not reported as deleted because its virtual machine is off", async () => {
    await one.stop();
    await start("virtual-machine");
    await alice.up(all());
    await power("stop");
    assert.equal(await alice.preview(all()), "same");
    assert.deepEqual(alice.warnings, []);
    await power("start");
    assert.equal(await alice.up(all()), "same");
  });

  it("is shown with its last known values, with a warning, when the agent of a virtual machine does not answer", async () => {
    await one.stop();
    await start("virtual-machine");
    await alice.up(all());
    one.lab.setAgent("bcn2", "web1", false);
    assert.equal(await alice.preview(all()), "same");
    assert.deepEqual(alice.warnings, [
      'The agent in instance "web1" does not answer. State keeps the last known values of user "alice"',
    ]);
  });

  it("waits for the agent of a virtual machine that boots", async () => {
    await one.stop();
    await start("virtual-machine");
    one.lab.setAgent("bcn2", "web1", false);
    const up = alice.up(all());
    await until(new Deadline(30, "the wait"), () => Promise.resolve(alice.progress.length > 0 ? true : undefined));
    one.lab.setAgent("bcn2", "web1", true);
    assert.equal(await up, "created");
    assert.match(alice.progress[0] ?? "", /waiting for the agent in instance "web1", which does not answer/);
  });

  it("is deleted with its instance", async () => {
    await alice.up(args());
    const bob = managed("bob");
    await bob.up(args({ name: "bob" }));
    await power("stop");
    await (await one.byHand()).change("DELETE", "/1.0/instances/web1");
    await bob.destroy();
    assert.equal(await alice.preview(args()), "created");
    assert.equal(alice.state, undefined);
    assert.equal(await alice.preview(args()), "created");
    await managed("alice")
      .destroy()
      .catch(() => undefined);
    await assert.rejects(alice.up(args()), /has no instance "web1" in project "default".*Create it first/);
  });

  it("names the cluster member that does not answer", async () => {
    await one.stop();
    one = await startTwoMembers();
    await makePool(["bcn1", "bcn2"]);
    const [first = "", second = ""] = one.lab.seedInstances(2, { host: "bcn2", prefix: "web", type: "container", devices });
    const onSecond = await (await one.byHand()).get(`/1.0/instances/${first}`, z.looseObject({ location: z.string() }));
    const name = onSecond.location === "bcn1" ? first : second;
    const given = args({ instance: name });
    await alice.up(given);
    await one.lab.host("bcn1").powerOff();
    await assert.rejects(alice.preview(given), /on cluster member "bcn1", which is/);
    await assert.rejects(managed("bob").up({ ...given, name: "bob" }), /on cluster member "bcn1", which is/);
  });

  for (const [given, fault] of [
    [{ name: "root" }, /must not be root/],
    [{ name: "Alice" }, /is not a valid user name: 1 to 32 lower-case/],
    [{ name: "1st" }, /is not a valid user name/],
    [{ name: `a${"b".repeat(32)}` }, /is not a valid user name/],
    [{ name: "a b" }, /is not a valid user name/],
    [{ name: "alice\n" }, /is not a valid user name/],
    [{ uid: 0 }, /uid must be at least 1/],
    [{ home: "home/alice" }, /is not an absolute path/],
    [{ home: "/home/../etc" }, /must not go through/],
    [{ home: "/home/a:b" }, /is not an absolute path/],
    [{ shell: "bash" }, /is not an absolute path/],
    [{ groups: ["adm", "-G"] }, /is not a valid group name/],
    [{ sudo: "all" }, /must be one of none, password, passwordless/],
    [{ authorizedKeys: ["ssh-ed25519 AAAA"] }, /authorizedKeys\.0 is damaged/],
    [{ passwordHash: "secret" }, /is not a hash of crypt\(3\)/],
    [{ passwordHash: "$6$salt$hash:0:0" }, /is not a hash of crypt\(3\)/],
    [{ homeOnDelete: "delete" }, /must be keep or remove/],
    [{ authorizedKey: [] }, /did you mean authorizedKeys/],
  ] as const) {
    it(`refuses ${JSON.stringify(given)} before anything is done`, async () => {
      const faults = await alice.faults(args(given));
      assert.match(faults.join("\n"), fault);
      assert.equal(
        faults.some((each) => each.includes("secret")),
        false,
      );
    });
  }
});
