import assert from "node:assert/strict";
import fc from "fast-check";
import { clearDirectory, deleteAlone } from "../../../provider/host/clear-directory";
import { mountsBelow } from "../../../provider/host/mounts";
import { resetLxd } from "../../../provider/host/reset-lxd";
import { ifClustered, listMembers } from "../../../provider/lxd/cluster/cluster";
import { throughRestart, untilReady } from "../../../provider/lxd/cluster/restarts";
import { fingerprintOf } from "../../../provider/lxd/images/files";
import { uploadImage } from "../../../provider/lxd/images/images";
import { takeInventory } from "../../../provider/lxd/inventory";
import type { SshConnection } from "../../../provider/transport/ssh";
import type { ContractLab } from "./harness";

const CANARIES = "/srv/canaries";

/**
 * Names that a user may choose or that a program might handle wrongly; LXD writes the path of a device into the name of
 * its folder.
 */
const TYPED = [
  "my data",
  "dätä",
  "back\\slash",
  "\\040",
  "tab\there",
  "line\nbreak",
  "...",
  "..x",
  "-rf",
  "*",
  "$(id)",
  "`id`",
  "it's",
  '"',
  "#1",
];
const DELETED = ["x (deleted)", "x//deleted".replaceAll("/", "-"), " ", "trailing ", "🐄", "e\u0301", "\\", "a;b", "~", "[a]"];

/** Further random ones: any characters but those that no name can have. */
const letter = fc.oneof(
  fc.constantFrom(" ", "\n", "\t", "\\", ".", "'", '"', "$", "0", "1", "4"),
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 1 }),
);
const name = fc
  .array(letter, { minLength: 1, maxLength: 12 })
  .map((letters) => letters.join("").replace(/[/\0\p{Surrogate}]/gu, "_"))
  .filter((text) => text !== "." && text !== ".." && text !== "sub");

/** Wiping a host: what is deleted, what is started again, and what stays. */
export function wipingContract(lab: () => ContractLab): void {
  describe("a directory that is cleared", () => {
    const directory = "/srv/cleared";
    let ssh: SshConnection;
    const run = async (...argv: string[]): Promise<string> => (await ssh.run(argv, { deadline: lab().deadline() })).stdout;

    before(async () => {
      ssh = await lab().ssh("primary");
      await run("mkdir", "--parents", `${directory}/a/b`, "/srv/elsewhere");
      await ssh.run(["tee", "/srv/elsewhere/canary"], { deadline: lab().deadline(), stdin: "alive" });
    });

    it("keeps everything mounted in it meanwhile: clearing fails, and the next attempt completes it", async () => {
      await run("mount", "--bind", "/srv/elsewhere", `${directory}/a/b`);
      await assert.rejects(deleteAlone(ssh, directory, lab().deadline()), /Device or resource busy/);
      assert.equal(await run("cat", "/srv/elsewhere/canary"), "alive");
      await clearDirectory(ssh, directory, lab().deadline());
      assert.equal(await run("ls", directory), "");
      assert.equal(await run("cat", "/srv/elsewhere/canary"), "alive");
      assert.deepEqual(await mountsBelow(ssh, directory, lab().deadline()), []);
    });

    it("may be a mount point, or a symbolic link, and keeps its owner and mode", async () => {
      await run("mkdir", "--parents", `${directory}/place/x`);
      await run("chmod", "711", `${directory}/place`);
      await run("chown", "65534:65534", `${directory}/place`);
      await run("ln", "-s", `${directory}/place`, "/srv/link");
      await clearDirectory(ssh, "/srv/link", lab().deadline());
      assert.deepEqual([await run("ls", `${directory}/place`), await run("ls", directory)], ["", "place\n"]);
      assert.equal(await run("stat", "--format=%a %u %g", `${directory}/place`), "711 65534 65534\n");
      await run("mkdir", "--parents", `${directory}/place/x`);
      await run("mount", "--bind", `${directory}/place`, `${directory}/place`);
      await clearDirectory(ssh, `${directory}/place`, lab().deadline());
      assert.equal(await run("ls", `${directory}/place`), "");
      await run("umount", `${directory}/place`);
    });
  });

  describe("a host that is wiped", () => {
    const names = [...TYPED, ...DELETED, ...fc.sample(name, { numRuns: 15, seed: 9 })];
    const sources = names.map((_, index) => `${CANARIES}/${index}`);
    const canaries = [...sources.map((source) => `${source}/canary`), `${CANARIES}/usb/canary`];
    let ssh: SshConnection;
    let data: string;
    const run = async (...argv: string[]): Promise<string> => (await ssh.run(argv, { deadline: lab().deadline() })).stdout;
    const exitOf = async (...argv: string[]): Promise<number> =>
      (await ssh.run(argv, { deadline: lab().deadline(), allowFailure: true })).exitCode;
    const instancesUnitIsActive = (): RegExp => new RegExp(`^Id=${lab().server.debian.startupUnit}\\nActiveState=active$`, "m");
    const states = async (): Promise<string> => {
      const { units, startupUnit } = lab().server.debian;
      return run("systemctl", "show", "--property=Id,ActiveState", ...units, startupUnit);
    };

    before(async () => {
      ssh = await lab().ssh("primary");
      data = lab().server.debian.dataDirectory;
      const targets = names.map((each, index) => `${data}/devices/c9/${index}.${each}`);
      const tree = `${data}/devices/c9/tree`;
      await run("mkdir", "--parents", ...sources, ...targets, `${CANARIES}/tree/sub`, `${CANARIES}/usb`, tree);
      await ssh.run(["tee", `${CANARIES}/usb/canary`, ...sources.map((source) => `${source}/canary`)], {
        deadline: lab().deadline(),
        stdin: "alive",
      });
      for (const [index, target] of targets.entries()) {
        await run("mount", "--bind", sources[index] ?? "", target);
      }
      // A mount in another namespace, which shares its events with its origin: unmounting there must not unmount here.
      await run("mount", "--bind", `${CANARIES}/tree`, `${CANARIES}/tree`);
      await run("mount", "--make-shared", `${CANARIES}/tree`);
      await run("mount", "--bind", `${CANARIES}/usb`, `${CANARIES}/tree/sub`);
      await run("mount", "--rbind", `${CANARIES}/tree`, tree);
    });

    it("loses LXD's data, and nothing that is mounted there under any name", async () => {
      assert.equal((await mountsBelow(ssh, `${data}/devices`, lab().deadline())).length >= names.length + 1, true);
      const before = await states();
      await resetLxd(ssh, lab().server.packaging, { deadline: lab().deadline(), progress: () => undefined });
      assert.equal(await run("cat", ...canaries), "alive".repeat(canaries.length));
      assert.deepEqual(await mountsBelow(ssh, `${CANARIES}/tree`, lab().deadline()), [`${CANARIES}/tree/sub`]);
      assert.deepEqual(await mountsBelow(ssh, `${data}/devices`, lab().deadline()), []);
      assert.deepEqual(await takeInventory(await lab().lxd()), {});
      const wiped = await lab().lxd();
      assert.equal(await ifClustered(wiped, listMembers(wiped)), undefined);
      assert.equal(await exitOf("test", "-e", `${data}.pulumi-lxd-wiped`), 1);
      assert.equal(await exitOf("test", "-d", `/sys/class/net/${lab().bridge}/bridge`), 1);
      assert.equal(await states(), before);
      assert.match(before, instancesUnitIsActive());
    });

    const startContainer = async (): Promise<void> => {
      const lxd = await lab().lxd();
      const fingerprint = await fingerprintOf(lab().harness.image);
      const image = { fingerprint, public: false, properties: {} };
      await uploadImage(lxd, lab().project, lab().harness.image, image, () => undefined);
      await lxd.change("POST", "/1.0/storage-pools", { body: { name: lab().pool, driver: "dir", config: {} } });
      const devices = { root: { type: "disk", path: "/", pool: lab().pool } };
      await lxd.change("POST", "/1.0/instances", { body: { name: "c9", devices, source: { type: "image", fingerprint } } });
      await lxd.change("PUT", "/1.0/instances/c9/state", { body: { action: "start" } });
    };

    it("ends a container that LXD did not stop, and restores the unit that an older wipe left stopped", async () => {
      await run("systemctl", "stop", lab().server.debian.startupUnit); // which also shuts LXD down
      const lxd = await lab().lxd();
      await throughRestart(lxd, () => untilReady(lxd));
      await startContainer();
      await resetLxd(ssh, lab().server.packaging, { deadline: lab().deadline(), progress: () => undefined });
      assert.equal(await exitOf("pkill", "--signal", "0", "--full", `^\\[lxc monitor\\] ${data}/containers `), 1);
      assert.match(await states(), instancesUnitIsActive());
    });
  });
}
