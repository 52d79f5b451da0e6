import assert from "node:assert/strict";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { clusterOf, giveStorageAndNetwork, startServer } from "../../lifecycles/worlds";
import { Managed } from "./simulated-cluster";

/** NICs with the MAC address of the host's interface: LXD does not report it before they are in the guest. */
const NICS: Readonly<Record<string, { device: object; guestName: string }>> = {
  "a physical NIC": { device: { type: "nic", nictype: "physical", parent: "eth0", name: "lan0" }, guestName: "lan0" },
  "a physical NIC that LXD names": { device: { type: "nic", nictype: "physical", parent: "eth0" }, guestName: "eth1" },
  "an ipvlan NIC": {
    device: { type: "nic", nictype: "ipvlan", parent: "eth0", name: "lan0", "ipv4.address": "192.168.1.50" },
    guestName: "lan0",
  },
};

describe("an address on a NIC whose MAC address LXD does not report", () => {
  let lab: Awaited<ReturnType<typeof startServer>>;
  let number = 0;

  before(async () => {
    lab = await startServer("bookworm-lxd");
    await giveStorageAndNetwork(lab);
    lab.seedImage("bcn2", { alias: "debian", type: "container" });
  });

  after(() => lab.stop());

  const args = (device: object, networkConfig: object): Record<string, unknown> => ({
    ...{ cluster: clusterOf(lab), instanceType: "container", image: { alias: "debian" } },
    name: `c${(number += 1)}`,
    devices: { lan: device },
    cloudInit: { networkConfig: JSON.stringify(networkConfig) },
    waitFor: [{ for: "ipv4", nic: "lan" }],
  });

  for (const [what, { device, guestName }] of Object.entries(NICS)) {
    it(`${what} is waited for and found`, async () => {
      const given = args(device, { version: 2, ethernets: { [guestName]: { addresses: ["192.168.1.50/24"] } } });
      const vm = new Managed(vmLifecycle, String(given["name"]));
      assert.equal(await vm.up(given), "created");
      const { lan, eth0 } = vm.inState("addresses") as Record<string, { ipv4: string[] }>;
      assert.deepEqual(lan?.ipv4, ["192.168.1.50"]);
      assert.match(eth0?.ipv4.join() ?? "", /^10\.10\.10\.\d+$/);
      assert.deepEqual(Object.keys(vm.inState("macAddresses") as object), ["eth0"]);
      assert.equal(await vm.up(given), "same");
    });
  }

  it("is not taken from another NIC", async () => {
    const given = args({ type: "nic", nictype: "physical", parent: "eth0", name: "lan0" }, { version: 2 });
    const vm = new Managed(vmLifecycle, String(given["name"]));
    await assert.rejects(
      vm.up({ ...given, timeouts: { create: 6 } }),
      /an IPv4 address on lan.*eth0 has 10\.10\.10\.\d+.*lan has none/s,
    );
  });
});
