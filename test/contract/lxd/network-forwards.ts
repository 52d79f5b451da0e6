import assert from "node:assert/strict";
import { getServers } from "../../../provider/lxd/cluster/servers";
import { createObject } from "../../../provider/lxd/storage-and-networks/creation";
import { toLivePort } from "../../../provider/lxd/storage-and-networks/forward-ports";
import { deleteObject } from "../../../provider/lxd/storage-and-networks/member-objects";
import {
  createNetworkForward,
  deleteNetworkForward,
  type ForwardRef,
  findNetworkForward,
  findNetworkForwardShared,
  listNetworkForwardsShared,
  type NetworkForwardPut,
  replaceNetworkForward,
} from "../../../provider/lxd/storage-and-networks/network-forwards";
import { network } from "../../../provider/lxd/storage-and-networks/networks";
import { type ContractLab, refused } from "./harness";

/** Forwards of a bridge, which belong to one member each. */
export function networkForwardsContract(lab: () => ContractLab): void {
  describe("a network forward", () => {
    const bridge = network("default", "fwdbr0");
    const ref = (which: "primary" | "secondary" | undefined, listenAddress = "192.0.2.1"): ForwardRef => ({
      ...{ project: "default", network: "fwdbr0", listenAddress },
      ...(which !== undefined && { target: lab().harness[which].name }),
    });
    const HTTP = toLivePort({ protocol: "tcp", listenPort: "80,443", targetAddress: "10.78.0.5" });
    const make = async (at: ForwardRef, more: Partial<NetworkForwardPut> = {}): Promise<void> =>
      createNetworkForward(await lab().lxd(), at, { description: "", config: {}, ports: [], ...more });

    before(async () => {
      const lxd = await lab().lxd();
      const config = { "ipv4.address": "10.78.0.1/24", "ipv6.address": "none" };
      const creation = { ref: bridge, identity: { type: "bridge" }, description: "", config, memberConfig: {}, mark: "" };
      await createObject(lxd, await getServers(lxd), creation, undefined, () => undefined);
    });

    it("is one of the member that is its target, and is found through any", async () => {
      const config = { target_address: "10.78.0.4", "user.pulumi.urn": "x" };
      await make(ref("secondary"), { description: " shop ", config, ports: [{ ...HTTP, listen_port: " 80 , 443" }] });
      for (const which of ["primary", "secondary"] as const) {
        const found = await findNetworkForward(await lab().lxd(which), ref("secondary"));
        const { location, description, ports, ...others } = found?.value ?? assert.fail();
        assert.deepEqual([location, description, others.config], [lab().harness.secondary.name, "shop", config]);
        const { snat: _, ...port } = ports[0] ?? assert.fail(); // Incus has it
        assert.deepEqual(port, HTTP);
        assert.equal((await findNetworkForwardShared(await lab().lxd(which), ref("secondary")))?.description, "shop");
      }
      assert.equal(await findNetworkForward(await lab().lxd(), ref("primary")), undefined);
      assert.equal(await findNetworkForwardShared(await lab().lxd(), ref("primary")), undefined);
      await refused(make(ref("secondary")), 409, /A forward for that listen address already exists/);
    });

    it("may have the same address on another member, and is then ambiguous without a target", async () => {
      await make(ref("primary"));
      const lxd = await lab().lxd();
      await refused(findNetworkForward(lxd, ref(undefined)), 409, /found on more than one cluster member/);
      assert.equal((await listNetworkForwardsShared(lxd, ref(undefined))).length, 2);
      await deleteNetworkForward(lxd, ref("primary"));
      assert.equal((await findNetworkForward(lxd, ref(undefined)))?.value.location, lab().harness.secondary.name);
    });

    it("is one of the member that is asked when it is made without a target", async () => {
      const here = "192.0.2.77";
      await make(ref(undefined, here));
      const found = await findNetworkForward(await lab().lxd("secondary"), ref(undefined, here));
      assert.equal(found?.value.location, lab().harness.primary.name);
      await deleteNetworkForward(await lab().lxd(), ref("primary", here));
    });

    it("is replaced as a whole on its member, and not through another one without a target", async () => {
      const lxd = await lab().lxd();
      const found = await findNetworkForward(lxd, ref("secondary"));
      assert.ok(found);
      const body = { description: "second", config: { "user.a": "b" }, ports: [{ ...HTTP, target_port: "8080" }] };
      await replaceNetworkForward(lxd, ref("secondary"), found, () => body);
      const { value } = (await findNetworkForward(lxd, ref("secondary"))) ?? {};
      assert.deepEqual([value?.description, value?.config, value?.ports[0]?.target_port], ["second", { "user.a": "b" }, "8080"]);
      const elsewhere = lxd.change("PUT", "/1.0/networks/fwdbr0/forwards/192.0.2.1", { body });
      await refused(elsewhere, 404, /Failed updating forward: Network forward not found/);
      const deleted = lxd.change("DELETE", "/1.0/networks/fwdbr0/forwards/192.0.2.1");
      await refused(deleted, 404, /Failed deleting forward: Network forward not found/);
    });

    const port = (fields: object): Partial<NetworkForwardPut> => ({ ports: [{ ...HTTP, ...fields }] });
    const refusals: [what: string, more: Partial<NetworkForwardPut>, reply: RegExp][] = [
      ["an unknown key", { config: { "limits.x": "1" } }, /Invalid option "limits\.x"/],
      ["a target that is no address", { config: { target_address: "x" } }, /Invalid default target address/],
      ["a target outside of the network", { config: { target_address: "10.99.0.5" } }, /not within the network subnet/],
      ["a target of another family", { config: { target_address: "fd00::1" } }, /Cannot mix IP versions/],
      ["ports of an unknown protocol", port({ protocol: "icmp" }), /protocol must be one of: tcp, udp/],
      ["no port", port({ listen_port: "" }), /Missing listen port/],
      ["a reversed range of ports", port({ listen_port: "90-80" }), /Invalid listen port/],
      ["a port twice", port({ listen_port: "80,80" }), /Duplicate listen port 80/],
      ["target ports that do not match", port({ listen_port: "80-82", target_port: "90-91" }), /Mismatch of listen port/],
      [
        "the default target as the target of ports",
        { ...port({}), config: { target_address: "10.78.0.5" } },
        /Target address is same as default target address/,
      ],
    ];
    for (const [what, more, reply] of refusals) {
      it(`is refused with ${what}`, () => refused(make(ref("primary", "192.0.2.9"), more), 500, reply));
    }

    it("is refused on a network that does not exist, and on a member that does not exist", async () => {
      const at = ref("primary", "192.0.2.9");
      await refused(make({ ...at, network: "nope" }), 404, /Network not found/);
      await refused(make({ ...at, target: "nobody" }), 404, /Cluster member not found/);
      assert.deepEqual(await listNetworkForwardsShared(await lab().lxd(), { ...at, network: "nope" }), []);
    });

    it("is removed by itself, and with its network", async () => {
      const lxd = await lab().lxd();
      await make(ref("primary", "192.0.2.2"));
      await deleteNetworkForward(lxd, ref("secondary"));
      await deleteNetworkForward(lxd, ref("secondary"));
      assert.equal(await findNetworkForward(lxd, ref("secondary")), undefined);
      await deleteObject(lxd, bridge);
      await deleteNetworkForward(lxd, ref("primary", "192.0.2.2"));
      assert.equal(await findNetworkForward(lxd, ref("primary", "192.0.2.2")), undefined);
    });
  });
}
