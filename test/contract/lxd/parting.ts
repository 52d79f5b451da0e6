import assert from "node:assert/strict";
import { resetLxd } from "../../../provider/host/reset-lxd";
import { forgetMember, ifClustered, listMembers, removeMember, untilOnline } from "../../../provider/lxd/cluster/cluster";
import { joinCluster, mintJoinToken } from "../../../provider/lxd/cluster/join";
import { getServers } from "../../../provider/lxd/cluster/servers";
import { createAlias } from "../../../provider/lxd/images/aliases";
import { fingerprintOf } from "../../../provider/lxd/images/files";
import { deleteImage, uploadImage } from "../../../provider/lxd/images/images";
import { imagesOnlyOn } from "../../../provider/lxd/images/places";
import { deleteInstance, findInstance, stopInstance } from "../../../provider/lxd/instances/instances";
import { findInstanceWithStateShared } from "../../../provider/lxd/instances/shared-reads";
import { dataIn, takeInventory } from "../../../provider/lxd/inventory";
import { findProfile, replaceProfile } from "../../../provider/lxd/profiles";
import { getServer, setServerConfig } from "../../../provider/lxd/server";
import { viewsOf } from "../../../provider/lxd/storage-and-networks/member-objects";
import { pool } from "../../../provider/lxd/storage-and-networks/storage-pools";
import { until } from "../../../provider/support/deadline";
import { hasCode, isNotFound, messageOf } from "../../../provider/support/errors";
import { tinyImage } from "../../support/tiny-image";
import { type ContractLab, fails, refused } from "./harness";

/** Members that leave, are lost, and are wiped. */
export function partingContract(lab: () => ContractLab): void {
  describe("a member that leaves", () => {
    it("must be empty", async () => {
      const { secondary } = lab().harness;
      assert.deepEqual((await takeInventory(await lab().lxd(), secondary.name)).instances, [lab().instance]);
      await refused(removeMember(await lab().lxd(), secondary.name), 500, lab().server.memberNotEmpty);
      await stopInstance(await lab().work(), { status: "Running" }, 60);
      await deleteInstance(await lab().work());
      assert.equal(await findInstance(await lab().work()), undefined);
    });

    it("keeps an image that only it has where the server makes no copies, and leaves when it makes them", async () => {
      const { primary, secondary } = lab().harness;
      const lxd = await lab().lxd();
      const keep = (copies: string): Promise<unknown> =>
        lxd.change("PATCH", "/1.0", { body: { config: { "cluster.images_minimal_replica": copies } } });
      const files = tinyImage("only there");
      const fingerprint = await fingerprintOf(files);
      const only = async (): Promise<unknown> => [await imagesOnlyOn(lxd, primary.name), await imagesOnlyOn(lxd, secondary.name)];
      assert.deepEqual(await only(), [[], []]);
      await keep("1");
      const image = { fingerprint, public: false, properties: {} };
      await uploadImage(await lab().lxd("secondary"), lab().project, files, image, () => undefined);
      assert.deepEqual(await only(), [[], [fingerprint.slice(0, 12)]]);
      await refused(removeMember(lxd, secondary.name), 500, new RegExp(`images: ${fingerprint}`));
      await createAlias(lxd, lab().project, { name: "tiny", description: "", target: fingerprint });
      assert.deepEqual(await only(), [[], ["tiny"]]);
      await keep("2");
      await until(lab().deadline(), async () => ((await imagesOnlyOn(lxd, secondary.name))?.length === 0 ? true : undefined));
      await deleteImage(lxd, lab().project, fingerprint);
      await keep("");
    });

    it("becomes a standalone server, which keeps its addresses and joins again when they are wiped", async () => {
      const { primary, secondary } = lab().harness;
      const pid = async () => (await getServer(await lab().lxd("secondary"))).environment["server_pid"];
      const before = await pid();
      await removeMember(await lab().lxd(), secondary.name);
      assert.deepEqual(
        (await listMembers(await lab().lxd())).map(({ server_name }) => server_name),
        [primary.name],
      );
      await removeMember(await lab().lxd(), secondary.name);
      // It answers briefly before it ends and is started again.
      await until(lab().deadline(), async () => {
        const now = await pid().catch((error: unknown) => {
          assert.ok(hasCode(error, "transport"), messageOf(error));
          return before;
        });
        return now === before ? undefined : true;
      });
      const left = await getServer(await lab().lxd("secondary"));
      assert.equal(left.environment.server_clustered, false);
      assert.equal(left.config["cluster.https_address"], secondary.address);
      const kept = { "core.https_address": secondary.address, "core.debug_address": "127.0.0.1:8444" };
      await setServerConfig(await lab().lxd("secondary"), kept);
      await resetLxd(
        await lab().ssh("secondary"),
        lab().server.packaging,
        { deadline: lab().deadline(), progress: () => undefined },
        await getServer(await lab().lxd("secondary")),
      );
      assert.deepEqual((await getServer(await lab().lxd("secondary"))).config, kept);
      assert.deepEqual(await takeInventory(await lab().lxd("secondary")), {});
      const wiped = await lab().lxd("secondary");
      assert.equal(await ifClustered(wiped, listMembers(wiped)), undefined);
      const token = await mintJoinToken(await lab().lxd(), secondary.name);
      const { certificate } = (await getServer(await lab().lxd())).environment;
      const joining = { name: secondary.name, address: secondary.address, token, certificate, memberConfig: [] };
      await joinCluster(await lab().lxd("secondary"), joining);
      await untilOnline(await lab().lxd(), secondary.name);
    });
  });

  describe("a member whose power is cut", () => {
    const other = "parting";
    const volumes = (): string => `/1.0/storage-pools/${lab().pool}/volumes/custom`;
    before(async () => {
      const { primary, secondary, powerOff } = lab().harness;
      const lxd = await lab().lxd();
      const body = { name: lab().instance, source: { type: "image", alias: lab().alias } };
      await lxd.change("POST", "/1.0/instances", { query: { target: secondary.name }, body });
      // Objects of the same names on the member that stays.
      const config = { "features.images": "false", "features.profiles": "false" };
      await lxd.change("POST", "/1.0/projects", { body: { name: other, config } });
      await lxd.change("POST", "/1.0/instances", { query: { target: primary.name, project: other }, body });
      for (const target of [primary.name, secondary.name]) {
        await lxd.change("POST", volumes(), { query: { target }, body: { name: "twin", config: {} } });
      }
      await powerOff(secondary.name);
      await until(lab().deadline("waiting for the member to be Offline"), async () => {
        const member = (await listMembers(await lab().lxd())).find(({ server_name }) => server_name === secondary.name);
        return member?.status === "Offline" ? true : undefined;
      });
    });

    it("is Offline, and its instances are listed without their contents", async () => {
      const { secondary } = lab().harness;
      await assert.rejects(
        findInstanceWithStateShared(await lab().work()),
        new RegExp(`on cluster member "${secondary.name}", which is Offline`),
      );
      await assert.rejects(findInstance(await lab().work()), (error: unknown) => !isNotFound(error));
    });

    it("is not reached through another member", async () => {
      await fails(getServer(await lab().lxd(), lab().harness.secondary.name), lab().server.offlineMember);
    });

    it("blocks creating and changing pools and networks on all members", async () => {
      const { primary, secondary } = lab().harness;
      const lxd = await lab().lxd();
      assert.deepEqual([...(await viewsOf(lxd, pool(lab().pool), await getServers(lxd))).keys()], [primary.name]);
      const body = { name: "late", driver: "dir" };
      await lxd.change("POST", "/1.0/storage-pools", { query: { target: primary.name }, body });
      await lxd.change("POST", "/1.0/storage-pools", { query: { target: secondary.name }, body });
      await refused(lxd.change("POST", "/1.0/storage-pools", { body }), 500, /peer node .* is down/);
      const config = { "ipv4.address": "10.10.10.1/24", "ipv6.address": "none" };
      await refused(lxd.change("PUT", `/1.0/networks/${lab().bridge}`, { body: { config } }), 500, /peer node .* is down/);
    });

    it("does not block changes of profiles", async () => {
      const lxd = await lab().lxd();
      const body = { description: "", config: { "user.x": "y" }, devices: {} };
      await replaceProfile(lxd, lab().project, "p1", () => body, undefined);
      assert.equal((await findProfile(lxd, lab().project, "p1"))?.value.config["user.x"], "y");
    });

    it("accepts no new instance", async () => {
      const { secondary } = lab().harness;
      const body = { name: "c4", source: { type: "image", alias: lab().alias } };
      const making = (await lab().lxd()).change("POST", "/1.0/instances", { query: { target: secondary.name }, body });
      await assert.rejects(making, /Unable to connect|no route|Missing event connection|Server isn't ready yet/);
    });

    it("is removed with its content only by force", async () => {
      const { primary, secondary } = lab().harness;
      const lxd = await lab().lxd();
      const refusal = lxd.change("DELETE", `/1.0/cluster/members/${secondary.name}`, { query: { force: "true" } });
      await refused(refusal, 500, lab().server.memberNotEmpty);
      await forgetMember(lxd, secondary.name);
      assert.deepEqual(
        (await listMembers(lxd)).map(({ server_name }) => server_name),
        [primary.name],
      );
      assert.equal(await findInstance(await lab().work()), undefined);
      await forgetMember(lxd, secondary.name);
    });

    it("leaves objects of the same names on another member, and in another project", async () => {
      const { primary } = lab().harness;
      const lxd = await lab().lxd();
      assert.deepEqual(await takeInventory(lxd, primary.name).then(dataIn), {
        instances: [`${other}/${lab().instance}`],
        "custom-volumes": [`${lab().pool}/twin`],
      });
      await lxd.remove(`/1.0/instances/${lab().instance}`, { project: other });
      await lxd.remove(`${volumes()}/twin`, { target: primary.name });
      await lxd.remove(`/1.0/projects/${other}`);
    });
  });
}
