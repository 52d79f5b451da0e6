import assert from "node:assert/strict";
import { installOf } from "../../lab/real/flavours";
import { networkLifecycle } from "../../provider/resources/lxd-network";
import { storagePoolLifecycle } from "../../provider/resources/lxd-storage-pool";
import { storageVolumeLifecycle } from "../../provider/resources/lxd-storage-volume";
import { bareHosts } from "../support/bare-hosts";
import { LINGER, LISTEN } from "../support/listen";
import { createResource } from "../support/real-lab";
import { Managed } from "../unit/resources/simulated-cluster";
import { eventually } from "./support/eventually";

const DISK = "/srv/fast-disk.img";

describe("On two real members,", () => {
  after("frees the loop device, before the hosts are emptied", () =>
    inShell("bcn1", `losetup --noheadings --output NAME --associated ${DISK} | xargs --no-run-if-empty losetup --detach`),
  );

  const hosts = bareHosts(["bcn2", "bcn1"]);
  const { to, node, member, onHost, inShell } = hosts;
  const pool = new Managed(storagePoolLifecycle, "fast");
  let disk = "";

  const cluster = (): object => ({ endpoints: [to("bcn2"), to("bcn1")] });
  const args = (more: object) => ({ cluster: cluster(), name: "fast", driver: "btrfs", ...more });
  const finished = (size: string) =>
    args({ memberConfig: { bcn2: { size }, bcn1: { source: disk } }, config: { "user.a": "b" } });
  const query = async (path: string): Promise<{ [key: string]: unknown }> =>
    JSON.parse(await onHost("bcn2", hosts.lab.flavour.client, "query", path)) as { [key: string]: unknown };
  /** Status of an object; `undefined` while it cannot be read. */
  const tryQuery = async (path: string): Promise<unknown> => {
    const { stdout, exitCode } = await hosts.lab.hostExec("bcn2", [hosts.lab.flavour.client, "query", path]);
    return exitCode === 0 ? (JSON.parse(stdout) as { status: unknown }).status : undefined;
  };
  /** URLs of all pools. Incus 6.0 answers `null` for none, which its client prints as nothing. */
  const pools = async (): Promise<string[]> =>
    JSON.parse((await onHost("bcn2", hosts.lab.flavour.client, "query", "/1.0/storage-pools")) || "[]") as string[];
  const canGrow = async (): Promise<boolean> =>
    ((await query("/1.0"))["api_extensions"] as string[]).includes("storage_pool_loop_resize");
  const totalBytes = async (name: string): Promise<number> =>
    ((await query(`/1.0/storage-pools/fast/resources?target=${name}`))["space"] as { total: number }).total;

  before(async () => {
    const install = { ...installOf(hosts.lab.flavour), packages: ["btrfs-progs"] };
    await createResource("LxdNode", node("bcn2", { install }));
    await createResource("LxdNode", node("bcn1"));
    for (const host of ["bcn2", "bcn1"] as const) {
      await createResource("LxdClusterMember", member(host));
    }
  });

  describe("a btrfs pool", () => {
    it("is refused while one member has no btrfs, and nothing is left", async () => {
      await assert.rejects(pool.up(args({})), /bcn1 does not have the storage driver btrfs; it has /);
      assert.equal(pool.state, undefined);
      assert.deepEqual(await pools(), []);
    });

    it("is kept as unfinished when one member fails, and completed when that is repaired", async () => {
      await onHost("bcn1", "apt-get", "install", "-q", "-y", "btrfs-progs");
      await onHost("bcn1", "systemctl", "restart", hosts.lab.flavour.units[1]);
      await onHost("bcn1", ...hosts.lab.flavour.admin, "waitready");
      const wrong = args({
        memberConfig: { bcn2: { size: "1GiB" }, bcn1: { source: "/dev/nowhere" } },
        config: { "user.a": "b" },
      });
      await assert.rejects(
        pool.up(wrong),
        /Storage pool "fast" could not be created on bcn1; it is created on bcn2\. .*nowhere.*The next pulumi up continues from here/,
      );
      assert.notEqual(pool.state, undefined);
      assert.equal((pool.inState("memberStatus") as { [name: string]: string })["bcn2"], "Created");
      await assert.rejects(pool.up(wrong), /could not be created on bcn1/);
      disk = await inShell("bcn1", `truncate --size 1G ${DISK} && losetup --find --show ${DISK}`);
      assert.equal(await pool.up(finished("1GiB")), "updated");
      assert.deepEqual(pool.inState("memberStatus"), { bcn2: "Created", bcn1: "Created" });
      assert.equal(pool.inState("status"), "Created");
      assert.equal((pool.inState("sources") as { [name: string]: string })["bcn1"], disk);
      assert.equal(await pool.up(finished("1GiB")), "same");
    });

    it("grows where the server can do that, and shrinks nowhere", async () => {
      const before = await totalBytes("bcn2");
      if (await canGrow()) {
        assert.equal(await pool.up(finished("2GiB")), "updated");
        assert.equal(await totalBytes("bcn2"), 2 * before);
        assert.equal(await pool.up(finished("2GiB")), "same");
        await assert.rejects(pool.up(finished("1GiB")), /has 2GiB on bcn2, and .* cannot shrink a pool/);
      } else {
        await assert.rejects(pool.up(finished("2GiB")), /has 1GiB on bcn2, and .* cannot resize a pool/);
        assert.equal(await totalBytes("bcn2"), before);
      }
    });

    it("fails no refresh while a member cannot read it, because its tools are gone", async () => {
      const same = finished((await canGrow()) ? "2GiB" : "1GiB");
      const restart = async (host: "bcn1" | "bcn2"): Promise<void> => {
        await onHost(host, "systemctl", "restart", hosts.lab.flavour.units[1]);
        await onHost(host, ...hosts.lab.flavour.admin, "waitready");
      };
      for (const host of ["bcn1", "bcn2"] as const) {
        await onHost(host, "dpkg", "--remove", "--force-depends", "btrfs-progs");
        await restart(host);
        pool.warnings.length = 0;
        assert.equal(await pool.up(same), "same", host);
        const warning = `Storage pool "fast" cannot be read on ${host}, .* Required tool .?btrfs.? is missing\\. Install what is missing`;
        assert.match(pool.warnings.join("\n"), new RegExp(warning));
        assert.deepEqual(pool.inState("memberStatus"), { bcn2: "Created", bcn1: "Created", [host]: "Unavailable" });
        await onHost(host, "apt-get", "install", "-q", "-y", "btrfs-progs");
        await restart(host);
        // A server that is ready may not have mounted its pools yet: it tries again in the background.
        await eventually(
          `${host} has its pool again`,
          async () => (await tryQuery(`/1.0/storage-pools/fast?target=${host}`)) === "Created",
          120,
        );
        assert.equal(await pool.up(same), "same", host);
        assert.deepEqual(pool.inState("memberStatus"), { bcn2: "Created", bcn1: "Created" });
      }
    });

    it("has volumes with blocks, which grow and never shrink", async () => {
      const blocks = new Managed(storageVolumeLifecycle, "blocks");
      const sized = (size: string): object => ({
        ...{ cluster: cluster(), name: "blocks", pool: "fast", target: "bcn2", contentType: "block" },
        ...{ config: { size }, deleteData: true },
      });
      // Debian 13 does without e2fsprogs; Debian 12's server brings it.
      if ((await hosts.lab.hostExec("bcn2", ["which", "chattr"])).exitCode !== 0) {
        await assert.rejects(blocks.up(sized("32MiB")), /chattr.*executable file not found/);
        assert.deepEqual(await query("/1.0/storage-pools/fast/volumes/custom"), []);
        return;
      }
      assert.equal(await blocks.up(sized("32MiB")), "created");
      assert.equal((await query("/1.0/storage-pools/fast/volumes/custom/blocks?target=bcn2"))["content_type"], "block");
      assert.equal(await blocks.up(sized("64MiB")), "updated");
      assert.equal(await blocks.up(sized("64MiB")), "same");
      await assert.rejects(blocks.up(sized("32MiB")), /has 64MiB, and a block volume cannot be shrunk/);
      await blocks.destroy();
    });

    it("tells before a replacement what uses it, and is not removed while something does", async () => {
      await onHost("bcn2", hosts.lab.flavour.client, "storage", "volume", "create", "fast", "orders", "--target", "bcn2");
      await pool.preview(args({ memberConfig: { bcn1: { source: "/dev/other" } }, config: { "user.a": "b" } }));
      assert.match(pool.warnings.join("\n"), /Storage pool "fast" is used by 1 volume \(orders\)/);
      await assert.rejects(pool.destroy(), /Storage pool "fast" cannot be removed: .* It is used by volume orders/);
      await onHost("bcn2", hosts.lab.flavour.client, "storage", "volume", "delete", "fast", "orders", "--target", "bcn2");
      await pool.destroy();
      assert.deepEqual(await pools(), []);
    });

    it("is refused with a loop file larger than all disks, and nothing is left", async () => {
      const large = new Managed(storagePoolLifecycle, "large");
      await assert.rejects(
        large.up({ cluster: cluster(), name: "large", driver: "btrfs", config: { size: "100TiB" } }),
        /config\.size is 100TiB, and all disks of bcn2 together have \d+GiB\. Give a size that fits/,
      );
      assert.equal(large.state, undefined);
      assert.deepEqual(await pools(), []);
    });
  });

  describe("a network", () => {
    const network = new Managed(networkLifecycle, "br9");
    const bridge = (): object => ({
      ...{ cluster: cluster(), name: "br9" },
      ...{ config: { "ipv4.address": "10.9.9.1/24", "ipv6.address": "none" } },
    });

    it("is refused while a host has an interface of its name, also in the preview", async () => {
      await onHost("bcn1", "ip", "link", "add", "br9", "type", "bridge");
      await network.preview(bridge());
      assert.match(
        network.notes.join("\n"),
        /will refuse this, .* bcn1 has an interface "br9" \(bridge\) that (LXD|Incus) does not manage/,
      );
      await assert.rejects(network.up(bridge()), /bcn1 has an interface "br9"/);
      assert.equal(network.state, undefined);
      await onHost("bcn1", "ip", "link", "delete", "br9");
    });

    it("names the process that has the port of its DHCP on one member, and is completed when that has ended", async () => {
      const pid = (await onHost("bcn1", "perl", "-e", LISTEN, "0.0.0.0", "67")).trim();
      const message = `could not be created on bcn1; it is created on bcn2\\. .* On bcn1, perl \\(pid ${pid}\\) listens on 0\\.0\\.0\\.0:67$`;
      await assert.rejects(network.up(bridge()), new RegExp(message));
      await onHost("bcn1", "kill", pid);
      assert.equal(await network.up(bridge()), "updated");
      assert.deepEqual(network.inState("memberStatus"), { bcn2: "Created", bcn1: "Created" });
      assert.equal(await network.up(bridge()), "same");
      await network.destroy();
    });

    it("is changed, though the bridge's former dnsmasq ends only after the server has failed", async () => {
      const dnsmasqOn = async (host: "bcn1" | "bcn2"): Promise<string> => {
        const [, pid = ""] = /%br9:67 .*"dnsmasq",pid=(\d+)/.exec(await onHost(host, "ss", "-Hlnup")) ?? [];
        return pid;
      };
      const nat = (value: boolean): object => ({
        ...{ cluster: cluster(), name: "br9" },
        ...{ config: { "ipv4.address": "10.9.9.1/24", "ipv6.address": "none", "ipv4.nat": value } },
      });
      await network.up(nat(true));
      for (const [host, value] of [
        ["bcn2", false],
        ["bcn1", true],
      ] as const) {
        const before = await dnsmasqOn(host);
        await onHost(host, "perl", "-e", LINGER, "10.9.9.1", "br9", before);
        assert.equal(await network.up(nat(value)), "updated", host);
        assert.match(network.progress.join("\n"), /sending the change again/, host);
        network.progress.length = 0;
        assert.equal(await network.up(nat(value)), "same", host);
        assert.notEqual(await dnsmasqOn(host), before);
        assert.notEqual(await dnsmasqOn(host), "");
      }
      await network.destroy();
    });
  });
});
