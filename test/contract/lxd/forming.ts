import assert from "node:assert/strict";
import * as z from "zod";
import { NODE_TERMS } from "../../../provider/host/deb-upgrade";
import { hasLeftoverClusterCertificate } from "../../../provider/host/reset-lxd";
import { findSnap } from "../../../provider/host/snapd";
import { findSocket } from "../../../provider/lxd/client/endpoint";
import {
  bootstrapCluster,
  changeMember,
  getMember,
  ifClustered,
  listMembers,
  memberConfigKeys,
  untilOnline,
} from "../../../provider/lxd/cluster/cluster";
import { findClusterGroup, findClusterGroupShared } from "../../../provider/lxd/cluster/cluster-groups";
import { type JoinToken, joinByPassword, joinCluster, mintJoinToken } from "../../../provider/lxd/cluster/join";
import { MANUAL_ROLES } from "../../../provider/lxd/cluster/roles";
import { getServers } from "../../../provider/lxd/cluster/servers";
import { serversKeys } from "../../../provider/lxd/config-keys";
import { takeInventory } from "../../../provider/lxd/inventory";
import { getHardware, getServer, serverConfig, setServerConfig } from "../../../provider/lxd/server";
import { copyVolume, moveVolume } from "../../../provider/lxd/storage-and-networks/volume-moves";
import { listSnapshots } from "../../../provider/lxd/storage-and-networks/volume-snapshots";
import {
  changeVolume,
  createVolume,
  deleteVolume,
  findVolume,
  findVolumeShared,
} from "../../../provider/lxd/storage-and-networks/volumes";
import { hostMachine } from "../../../provider/machine/host";
import { hasDebPackage, installDebPackages } from "../../../provider/machine/packages/apt";
import { isNotFound } from "../../../provider/support/errors";
import { type ContractLab, failed, refused } from "./harness";

/** From bare hosts to a cluster of two. */
export function formingContract(lab: () => ContractLab): void {
  describe("a bare host", () => {
    it("has no API socket, no package and no snap", async () => {
      const ssh = await lab().ssh("primary");
      assert.equal(await findSocket(ssh, lab().deadline()), undefined);
      assert.equal(await hasDebPackage(hostMachine(ssh, lab().deadline()), lab().server.packages[0] ?? ""), false);
      assert.equal(await findSnap(ssh, lab().deadline()), undefined);
    });

    it("refuses a package that its sources do not have, and says what to do", async () => {
      const [deadline, terms] = [lab().deadline(), NODE_TERMS];
      await assert.rejects(
        installDebPackages(hostMachine(await lab().ssh("primary"), deadline), [{ name: "no-such-package" }], { deadline, terms }),
        /have no package "no-such-package"/,
      );
    });

    it("runs commands unchanged, whatever their characters", async () => {
      const ssh = await lab().ssh("primary");
      for (const text of ["a b", "it's", '"$HOME"', "`id`", "*", "a\\b", "", "-n", "ä;|&<>()#~!"]) {
        const missing = `/nonexistent/${text}`;
        const { exitCode, stderr } = await ssh.run(["cat", missing], { deadline: lab().deadline(), allowFailure: true });
        assert.equal(exitCode, 1);
        assert.ok(stderr.includes("No such file or directory"), stderr);
      }
    });

    it("has the server and its socket after the package was installed, even with dpkg interrupted before and a broken source", async () => {
      const { harness, server } = lab();
      await harness.hurtPackages(harness.secondary.name);
      for (const which of ["primary", "secondary"] as const) {
        const ssh = await lab().ssh(which);
        const deadline = lab().deadline();
        const host = hostMachine(ssh, deadline);
        const packages = server.packages.map((name) => ({ name }));
        const unread = await installDebPackages(host, packages, { deadline, terms: NODE_TERMS });
        assert.match(unread ?? "", which === "primary" ? /^$/ : /cdrom:/);
        assert.equal(await hasDebPackage(host, server.packages[0] ?? ""), true);
        assert.deepEqual(await findSocket(ssh, lab().deadline()), {
          path: `${server.debian.dataDirectory}/unix.socket`,
          packaging: server.packaging,
        });
      }
    });
  });

  describe("a standalone server", () => {
    it("reports when it is ready, and whom it trusts", async () => {
      const lxd = await lab().lxd();
      await lxd.get("/internal/ready", z.unknown());
      assert.deepEqual(await lxd.get("/1.0/certificates", z.array(z.unknown()), { recursion: 1 }), []);
    });

    it("reports its properties", async () => {
      const expected = lab().server;
      const server = await getServer(await lab().lxd());
      assert.equal(server.environment.server, expected.debian.server);
      assert.equal(server.environment.server_version, expected.version);
      assert.equal(server.api_extensions.length, expected.apiExtensions);
      assert.equal(server.environment.server_clustered, false);
      assert.match(server.environment.certificate, /^-----BEGIN CERTIFICATE-----\n/);
      assert.match(server.environment.certificate_fingerprint, /^[0-9a-f]{64}$/);
      const hardware = await getHardware(await lab().lxd());
      assert.ok(hardware.cpus > 0 && hardware.memoryBytes > 0);
    });

    it("tells which keys it has, as far as its metadata goes", async () => {
      const keysOf = await serversKeys(await lab().lxd());
      const examples: Readonly<Record<string, [keys: string[] | undefined, key: string]>> = {
        instance: [keysOf("instance"), "limits.memory"],
        project: [keysOf("project"), "features.images"],
        member: [keysOf("member"), "scheduler.instance"],
        pool: [keysOf("pool"), "source"],
        volume: [keysOf("volume"), "snapshots.schedule"],
        network: [keysOf("network"), "ipv4.nat"],
        disk: [keysOf("device", "disk"), "readonly"],
        nic: [keysOf("device", "nic"), "parent"],
        server: [keysOf("server"), "cluster.max_voters"],
      };
      const told = Object.entries(examples).filter(([, [keys]]) => keys !== undefined);
      assert.deepEqual(
        told.map(([owner]) => owner),
        lab().server.tellsKeysOf,
      );
      for (const [owner, [keys, key]] of told) {
        assert.ok(keys?.includes(key), `${owner} has no ${key}`);
      }
    });

    it("is in no cluster, holds nothing and issues no token", async () => {
      const lxd = await lab().lxd();
      assert.equal(await ifClustered(lxd, listMembers(lxd)), undefined);
      assert.deepEqual((await getServers(lxd)).clustered, false);
      assert.deepEqual(await memberConfigKeys(lxd), []);
      assert.deepEqual(await takeInventory(lxd), {});
      await refused(mintJoinToken(lxd, "other"), 400, /This server is not clustered/);
      await refused(lxd.change("POST", "/1.0/cluster/groups", { body: { name: "gpu" } }), 400, /This server is not clustered/);
      await assert.rejects(findClusterGroup(lxd, "gpu"), /is in no cluster, and only a cluster has groups/);
      await assert.rejects(findClusterGroupShared(lxd, "gpu"), /is in no cluster, and only a cluster has groups/);
      const ssh = await lab().ssh("primary");
      assert.equal(await hasLeftoverClusterCertificate(ssh, lab().server.packaging, lab().deadline()), false);
    });

    it("keeps config until an empty value unsets it, and refuses unknown keys", async () => {
      const lxd = await lab().lxd();
      await setServerConfig(lxd, { "core.proxy_http": "http://127.0.0.1:1", "user.contract": "yes" });
      const config = serverConfig(await getServer(lxd));
      assert.deepEqual([config["core.proxy_http"], config["user.contract"]], ["http://127.0.0.1:1", "yes"]);
      await setServerConfig(lxd, { "core.proxy_http": "", "user.contract": "" });
      assert.deepEqual(serverConfig(await getServer(lxd)), {});
      await refused(setServerConfig(lxd, { "core.nope": "1" }), 400, /cannot set 'core\.nope' to '1': unknown key/);
    });

    it("may lose local keys that a refused request does not have", async () => {
      const lxd = await lab().lxd();
      const local = { "core.debug_address": "127.0.0.1:8444" };
      await setServerConfig(lxd, local);
      await refused(setServerConfig(lxd, { "core.nope": "1" }), 400, /unknown key/);
      assert.deepEqual(serverConfig(await getServer(lxd)), local);
      await refused(lxd.change("PATCH", "/1.0", { body: { config: { "core.nope": "1" } } }), 400, /unknown key/);
      assert.deepEqual(serverConfig(await getServer(lxd)), lab().server.refusalReplacesLocalConfig ? {} : local);
      await setServerConfig(lxd, { "core.debug_address": "" });
    });

    it("accepts a pool with everything in one request, once", async () => {
      const lxd = await lab().lxd();
      const body = { name: "solo", driver: "dir", description: "", config: {} };
      await lxd.change("POST", "/1.0/storage-pools", { body });
      assert.deepEqual(await takeInventory(lxd), { "storage-pools": ["solo"] });
      await refused(lxd.change("POST", "/1.0/storage-pools", { body }), 409, /already exists/);
      await refused(
        lxd.change("POST", "/1.0/storage-pools", { body: { ...body, name: "x", driver: "nope" } }),
        500,
        /Unknown driver/,
      );
      const odd = { ...body, name: "x", config: { "zfs.nope": "1" } };
      await refused(lxd.change("POST", "/1.0/storage-pools", { body: odd }), 500, /Invalid option "zfs\.nope"/);
      await lxd.remove("/1.0/storage-pools/solo");
      await refused(lxd.change("DELETE", "/1.0/storage-pools/solo"), 404, /Storage pool not found/);
    });

    it("has volumes without a member, which move between its pools", async () => {
      const lxd = await lab().lxd();
      for (const name of ["solo", "other"]) {
        await lxd.change("POST", "/1.0/storage-pools", { body: { name, driver: "dir" } });
      }
      const from = { project: "default", pool: "solo", name: "data", location: "" };
      const wanted = { target: undefined, contentType: "filesystem", description: "first", config: { "user.k": "v" } };
      assert.equal(await createVolume(lxd, from, wanted), "");
      const found = await findVolume(lxd, from);
      assert.ok(found);
      await changeVolume(lxd, from, found, { config: { "user.k": "w" }, mark: "" });
      await moveVolume(lxd, { from, to: { pool: "other", location: "" } });
      assert.equal(await findVolume(lxd, from), undefined);
      const there = { ...from, pool: "other" };
      const { location, description, config } = (await findVolume(lxd, there))?.value ?? {};
      assert.deepEqual({ location, description, config }, { location: "", description: "first", config: { "user.k": "w" } });
      assert.equal((await findVolumeShared(lxd, there))?.name, "data");
      assert.deepEqual(await listSnapshots(lxd, there), []);
      const copy = { ...there, name: "twin" };
      const contents = { contentType: "filesystem", description: "", config: { "user.k": "v" } };
      await copyVolume(lxd, { from: there, to: copy, withSnapshots: true, ...contents });
      assert.equal((await findVolume(lxd, copy))?.value.config?.["user.k"], "v");
      await deleteVolume(lxd, copy);
      await deleteVolume(lxd, there);
      await deleteVolume(lxd, there);
      for (const name of ["solo", "other"]) {
        await lxd.remove(`/1.0/storage-pools/${name}`);
      }
    });

    it("answers an unknown path with 404, and an unsupported method with 501", async () => {
      const lxd = await lab().lxd();
      await refused(lxd.change("PUT", "/1.0/nope", { body: {} }), 404, /not found/);
      await refused(lxd.change("PUT", "/1.0/profiles", { body: {} }), 501, /not implemented/);
      await refused(lxd.change("POST", "/1.0/profiles", { body: { name: 5 } }), 400, /cannot unmarshal number/);
    });
  });

  describe("forming a cluster", () => {
    const spent: JoinToken[] = [];

    const join = async (token: JoinToken, change: { name?: string; certificate?: string } = {}): Promise<void> => {
      const { primary, secondary } = lab().harness;
      const { certificate } = (await getServer(await lab().lxd())).environment;
      await joinCluster(await lab().lxd("secondary"), {
        name: secondary.name,
        address: secondary.address,
        certificate,
        memberConfig: [],
        ...change,
        token: { ...token, addresses: [primary.address] },
      });
    };

    it("requires an address first", async () => {
      const { name } = lab().harness.primary;
      await refused(bootstrapCluster(await lab().lxd(), name), 500, /Cannot use wildcard core\.https_address ""/);
    });

    it("bootstraps once", async () => {
      const { name, address } = lab().harness.primary;
      const lxd = await lab().lxd();
      await setServerConfig(lxd, { "core.https_address": address, "cluster.https_address": address });
      const { certificate_fingerprint: before } = (await getServer(lxd)).environment;
      await bootstrapCluster(lxd, name);
      const { environment } = await getServer(lxd);
      assert.deepEqual([environment.server_clustered, environment.server_name], [true, name]);
      assert.notEqual(environment.certificate_fingerprint, before, "a cluster has its own certificate");
      const [member] = await listMembers(lxd);
      assert.deepEqual(
        { name: member?.server_name, url: member?.url, status: member?.status, roles: member?.roles, groups: member?.groups },
        { name, url: `https://${address}`, status: "Online", roles: ["database-leader", "database"], groups: ["default"] },
      );
      await failed(bootstrapCluster(lxd, name), /leftover cluster certificate/);
      assert.equal(
        await hasLeftoverClusterCertificate(await lab().ssh("primary"), lab().server.packaging, lab().deadline()),
        true,
      );
    });

    it("creates a pool and a bridge on its only member without defining them first", async () => {
      const lxd = await lab().lxd();
      await lxd.change("POST", "/1.0/storage-pools", { body: { name: lab().pool, driver: "dir", config: {} } });
      const config = { "ipv4.address": "10.10.10.1/24", "ipv4.nat": "true", "ipv6.address": "none" };
      await lxd.change("POST", "/1.0/networks", { body: { name: lab().bridge, type: "bridge", config } });
      assert.deepEqual(await memberConfigKeys(lxd), [
        {
          entity: "storage-pool",
          name: lab().pool,
          key: "source",
          value: "",
          description: `"source" property for storage pool "${lab().pool}"`,
        },
      ]);
    });

    it("issues a token with the cluster's certificate and addresses, and cancels the older one of that name", async () => {
      const { primary, secondary } = lab().harness;
      const lxd = await lab().lxd();
      const older = await mintJoinToken(lxd, secondary.name);
      const token = await mintJoinToken(lxd, secondary.name);
      const { certificate_fingerprint } = (await getServer(lxd)).environment;
      assert.deepEqual([token.fingerprint, token.addresses], [certificate_fingerprint, [primary.address]]);
      spent.push(older);
      await lxd.cancel({ id: token.operationId });
      spent.push(token);
    });

    it("refuses replaced and cancelled tokens", async () => {
      for (const token of spent) {
        await failed(join(token), /No matching cluster join operation found/);
      }
      assert.equal((await getServer(await lab().lxd("secondary"))).environment.server_clustered, false);
    });

    it("refuses a name in use, and consumes the token", async () => {
      const { primary, secondary } = lab().harness;
      const token = await mintJoinToken(await lab().lxd(), secondary.name);
      await failed(join(token, { name: primary.name }), /already has a member with name/);
      await failed(join(token), /No matching cluster join operation found/);
      // The server stays trusted under that name, which would block its own name.
      const { certificate_fingerprint } = (await getServer(await lab().lxd("secondary"))).environment;
      await (await lab().lxd()).remove(`/1.0/certificates/${certificate_fingerprint}`);
    });

    it("trusts a server that knows the cluster's password, if it has one", async () => {
      const { primary, secondary } = lab().harness;
      if (!lab().server.trustPassword) {
        await refused(setServerConfig(await lab().lxd(), { "core.trust_password": "hunter22" }), 400, /unknown key/i);
        return;
      }
      const { certificate } = (await getServer(await lab().lxd())).environment;
      const joinBy = async (trustPassword: string): Promise<void> =>
        joinByPassword(await lab().lxd("secondary"), {
          ...{ name: primary.name, address: secondary.address, clusterAddress: primary.address },
          ...{ certificate, trustPassword, memberConfig: [] },
        });
      await setServerConfig(await lab().lxd(), { "core.trust_password": "hunter22" });
      await failed(joinBy("hunter21"), /not authorized/i);
      await failed(joinBy("hunter22"), /already has a member with name/);
      const { certificate_fingerprint } = (await getServer(await lab().lxd("secondary"))).environment;
      await (await lab().lxd()).remove(`/1.0/certificates/${certificate_fingerprint}`);
      await setServerConfig(await lab().lxd(), { "core.trust_password": "" });
    });

    it("accepts a second member, which sees the same cluster", async () => {
      const { primary, secondary } = lab().harness;
      await join(await mintJoinToken(await lab().lxd(), secondary.name));
      await untilOnline(await lab().lxd(), secondary.name);
      const [mine, theirs] = await Promise.all([listMembers(await lab().lxd()), listMembers(await lab().lxd("secondary"))]);
      assert.deepEqual(mine.map((member) => member.server_name).sort(), [primary.name, secondary.name].sort());
      assert.deepEqual(
        theirs.map(({ server_name, roles }) => [server_name, roles]),
        mine.map(({ server_name, roles }) => [server_name, roles]),
      );
      assert.deepEqual(mine.find((member) => member.server_name === secondary.name)?.roles, ["database-standby"]);
      const [a, b] = [await getServer(await lab().lxd()), await getServer(await lab().lxd("secondary"))];
      assert.equal(a.environment.certificate_fingerprint, b.environment.certificate_fingerprint);
      assert.equal(b.environment.server_name, secondary.name);
    });

    it("does not accept it twice", async () => {
      const token = await mintJoinToken(await lab().lxd(), "third");
      await refused(join(token), 400, /This server is already clustered/);
      await (await lab().lxd()).cancel({ id: token.operationId });
      await assert.rejects((await lab().lxd()).change("DELETE", `/1.0/operations/${token.operationId}`));
    });

    it("allows changes of a member's config and failure domain, if its roles stay", async () => {
      const { primary, secondary } = lab().harness;
      const lxd = await lab().lxd();
      const value = await getMember(lxd, secondary.name);
      const config = { "scheduler.instance": "manual" };
      await changeMember(lxd, secondary.name, (live) => ({ ...live, failure_domain: "rack1", config }));
      const changed = await getMember(lxd, secondary.name);
      assert.deepEqual([changed.failure_domain, changed.config], ["rack1", { "scheduler.instance": "manual" }]);
      const put = (name: string, change: object): Promise<void> => changeMember(lxd, name, (live) => ({ ...live, ...change }));
      await refused(put(primary.name, { roles: [] }), 400, /"database" role cannot be dropped at this time/);
      const none = lxd.change("PUT", `/1.0/cluster/members/${secondary.name}`, { body: { ...changed, groups: [] } });
      await refused(none, 400, /need to belong to at least one group/);
      await refused(put(secondary.name, { config: { nope: "1" } }), 500, /Invalid cluster configuration key "nope"/);
      const stale = lxd.change("PUT", `/1.0/cluster/members/${secondary.name}`, { body: value, etag: "stale" });
      await refused(stale, 412, /ETag doesn't match/);
      await put(secondary.name, value);
    });

    it("takes the roles that a person assigns, beside those of the database", async () => {
      const { secondary } = lab().harness;
      const lxd = await lab().lxd();
      const rolesOf = async (): Promise<readonly string[]> => (await getMember(lxd, secondary.name)).roles ?? [];
      const own = await rolesOf();
      const put = (change: (roles: readonly string[]) => readonly string[]): Promise<void> =>
        changeMember(lxd, secondary.name, (live) => ({ ...live, roles: [...change(live.roles ?? [])] }));
      for (const role of MANUAL_ROLES) {
        const adds = put((roles) => [...roles, role]);
        if (lab().server.manualRoles.includes(role)) {
          await adds;
          assert.deepEqual(await rolesOf(), [role, ...own]);
          await put((roles) => roles.filter((each) => each !== role));
        } else {
          await refused(adds, 500, new RegExp(`Invalid cluster role "${role}"`));
        }
      }
      await refused(
        put((roles) => [...roles, "nope"]),
        500,
        /Invalid cluster role "nope"/,
      );
      // It ignores these two.
      await put((roles) => [...roles, "database-leader", "database-standby"]);
      assert.deepEqual(await rolesOf(), own);
    });

    it("reports a member that does not exist", async () => {
      await assert.rejects(getMember(await lab().lxd(), "nobody"), isNotFound);
      await refused((await lab().lxd()).change("GET" as "POST", "/1.0?target=nobody"), 404, /^Cluster member not found$/);
    });
  });
}
