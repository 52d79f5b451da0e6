import assert from "node:assert/strict";
import { getServers } from "../../../provider/lxd/cluster/servers";
import { toLive } from "../../../provider/lxd/storage-and-networks/acl-rules";
import { createObject } from "../../../provider/lxd/storage-and-networks/creation";
import { deleteObject, findObject } from "../../../provider/lxd/storage-and-networks/member-objects";
import {
  createNetworkAcl,
  deleteNetworkAcl,
  findNetworkAcl,
  findNetworkAclShared,
  replaceNetworkAcl,
} from "../../../provider/lxd/storage-and-networks/network-acls";
import { network } from "../../../provider/lxd/storage-and-networks/networks";
import { type ContractLab, refused } from "./harness";

/** Network ACLs, and bridges that use them. */
export function networkAclsContract(lab: () => ContractLab): void {
  const HTTP = toLive({ action: "allow", protocol: "tcp", destinationPort: "80,443,8000-8099", state: "enabled" });
  const make = async (name: string, ...ingress: object[]): Promise<void> => {
    const body = { description: "", config: {}, ingress: ingress.map((each) => ({ ...HTTP, ...each })), egress: [] };
    await createNetworkAcl(await lab().lxd(), "default", name, body);
  };
  const change = async (method: "PUT" | "POST" | "DELETE", path: string, body?: object, etag?: string): Promise<unknown> =>
    (await lab().lxd()).change(method, `/1.0/network-acls/${path}`, { body, etag });

  describe("a network ACL", () => {
    const rules = [
      { source: " 10.0.0.0/8 , 10.1.0.1", description: " web " },
      { action: "drop", protocol: "", destination_port: "" },
    ];

    it("has its rules in the given order, without the spaces of lists", async () => {
      await make("web", ...rules);
      const found = await findNetworkAcl(await lab().lxd("secondary"), "default", "web");
      assert.ok(found?.etag);
      const { ingress, egress, config, used_by } = found.value;
      assert.deepEqual(ingress, [
        { ...HTTP, source: "10.0.0.0/8,10.1.0.1", description: "web" },
        { ...HTTP, ...rules[1] },
      ]);
      assert.deepEqual([egress, config, used_by], [[], {}, []]);
      assert.deepEqual((await findNetworkAclShared(await lab().lxd(), "default", "web"))?.ingress, ingress);
      assert.equal(await findNetworkAcl(await lab().lxd(), "default", "nope"), undefined);
      await refused(make("web"), 400, /The network ACL already exists/);
    });

    const refusals: [what: string, rule: object, reply: RegExp][] = [
      ["an unknown action", { action: "accept" }, /Action must be one of: allow, /],
      ["no state", { state: "" }, /State must be one of: enabled, disabled, logged/],
      ["an unknown protocol", { protocol: "sctp" }, /Protocol must be one of: icmp4, icmp6, tcp, udp/],
      ["ports without a protocol", { protocol: "" }, /Destination port cannot be used without specifying protocol/],
      ["ports of ICMP", { protocol: "icmp4" }, /Destination port cannot be used with "icmp4" protocol/],
      ["ICMP fields of TCP", { icmp_type: "8" }, /ICMP type cannot be used with non-ICMP protocol/],
      ["an impossible ICMP type", { protocol: "icmp4", destination_port: "", icmp_type: "256" }, /Invalid ICMP type/],
      ["an impossible port", { destination_port: "http" }, /Invalid Destination port/],
      ["a reversed range of ports", { destination_port: "90-80" }, /Invalid Destination port/],
      ["the name of an ACL that does not exist", { source: "nope" }, /Invalid Source: Invalid subject "nope"/],
      [
        "a name where only addresses are possible",
        { destination: "web" },
        /Named subjects not allowed in "Destination" for "ingress"/,
      ],
      ["two families", { source: "10.0.0.1", destination: "fd00::1" }, /Conflicting IP family types/],
      [
        "addresses that the protocol does not have",
        { protocol: "icmp6", destination_port: "", source: "10.0.0.1" },
        /Cannot use IPv4 source addresses with "icmp6" protocol/,
      ],
    ];
    for (const [what, rule, reply] of refusals) {
      it(`is refused with ${what}`, () => refused(make("refused", rule), 500, reply));
    }

    it("is refused with the same rule twice, and with config other than the user's", async () => {
      await refused(
        make("refused", { source: "10.0.0.1,10.0.0.2" }, { source: "10.0.0.1, 10.0.0.2" }),
        500,
        /Duplicate of ingress rule 0/,
      );
      const body = { description: "", config: { "limits.memory": "1GiB" }, ingress: [], egress: [] };
      await refused(
        createNetworkAcl(await lab().lxd(), "default", "refused", body),
        500,
        /Invalid config option "limits\.memory"/,
      );
    });

    it("is replaced as a whole, and only if it is unchanged since the read", async () => {
      const lxd = await lab().lxd();
      const found = await findNetworkAcl(lxd, "default", "web");
      assert.ok(found);
      const body = { description: "second", config: { "user.a": "b" }, ingress: [], egress: [HTTP] };
      await replaceNetworkAcl(lxd, "default", found, () => body);
      const { value } = (await findNetworkAcl(lxd, "default", "web")) ?? {};
      assert.deepEqual(
        [value?.description, value?.config, value?.ingress, value?.egress],
        ["second", { "user.a": "b" }, [], [HTTP]],
      );
      await refused(change("PUT", "web", body, found.etag), 412, /ETag doesn't match/);
      await refused(change("PUT", "nope", body), 404, /Network ACL not found/);
    });

    it("is renamed", async () => {
      await change("POST", "web", { name: "www" });
      assert.equal(await findNetworkAcl(await lab().lxd(), "default", "web"), undefined);
      await change("POST", "www", { name: "web" });
    });
  });

  describe("a bridge with an ACL", () => {
    const bridge = network("default", "aclbr0");
    const config = (acls?: string): Record<string, string> => ({
      ...{ "ipv4.address": "10.77.0.1/24", "ipv6.address": "none" },
      ...(acls !== undefined && { "security.acls": acls }),
    });
    const putBridge = async (acls?: string): Promise<unknown> =>
      (await lab().lxd()).change("PUT", "/1.0/networks/aclbr0", { body: { description: "", config: config(acls) } });

    it("is created with ACLs that exist, and is then listed as a user of them", async () => {
      const lxd = await lab().lxd();
      const creation = { ref: bridge, identity: { type: "bridge" }, description: "", memberConfig: {}, mark: "" };
      await createObject(lxd, await getServers(lxd), { ...creation, config: config("web") }, undefined, () => undefined);
      assert.equal((await findObject(lxd, bridge))?.value.config?.["security.acls"], "web");
      assert.deepEqual((await findNetworkAcl(lxd, "default", "web"))?.value.used_by, ["/1.0/networks/aclbr0"]);
      await refused(putBridge("web,nope"), 400, /Network ACL "nope" does not exist/);
    });

    it("lets nobody rename or remove its ACL", async () => {
      await refused(change("POST", "web", { name: "www" }), 500, /Cannot rename an ACL that is in use/);
      await refused(deleteNetworkAcl(await lab().lxd(), "default", "web"), 500, /Cannot delete an ACL that is in use/);
    });

    it("takes changed rules at once", async () => {
      const lxd = await lab().lxd();
      const found = await findNetworkAcl(lxd, "default", "web");
      assert.ok(found);
      await replaceNetworkAcl(lxd, "default", found, ({ description }) => ({
        description,
        config: {},
        ingress: [HTTP],
        egress: [],
      }));
      assert.deepEqual((await findNetworkAcl(lxd, "default", "web"))?.value.ingress, [HTTP]);
    });

    it("refuses names in the rules of its ACL, which keeps the former rules", async () => {
      const body = { description: "", config: {}, ingress: [{ ...HTTP, source: "@internal" }], egress: [] };
      await refused(change("PUT", "web", body), 500, /Unsupported nftables subject "@internal"/);
      assert.deepEqual((await findNetworkAcl(await lab().lxd(), "default", "web"))?.value.ingress, [HTTP]);
    });

    it("frees its ACL, which may still be in the rules of another", async () => {
      const lxd = await lab().lxd();
      await make("other", { source: "web" });
      await putBridge();
      assert.deepEqual((await findNetworkAcl(lxd, "default", "web"))?.value.used_by, ["/1.0/network-acls/other"]);
      await deleteNetworkAcl(lxd, "default", "other");
      await deleteNetworkAcl(lxd, "default", "web");
      await deleteNetworkAcl(lxd, "default", "web");
      assert.equal(await findNetworkAcl(lxd, "default", "web"), undefined);
      await deleteObject(lxd, bridge);
    });
  });
}
