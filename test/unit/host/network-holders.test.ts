import assert from "node:assert/strict";
import { holdersIn, isServedBy, listenersIn } from "../../../provider/host/network-holders";

/** Of ss 6.1 on Debian 12. */
const SS = `udp UNCONN 0      0          10.98.0.1:53   0.0.0.0:* users:(("dnsmasq",pid=1227,fd=6))
udp UNCONN 0      0       0.0.0.0%br98:67   0.0.0.0:* users:(("dnsmasq",pid=1227,fd=4))
tcp LISTEN 0      128          0.0.0.0:22   0.0.0.0:* users:(("sshd",pid=135,fd=3))
tcp LISTEN 0      32         10.98.0.1:53   0.0.0.0:* users:(("dnsmasq",pid=1227,fd=7))
udp UNCONN 0      0            0.0.0.0:53   0.0.0.0:* users:(("my dns",pid=910,fd=3),("my dns",pid=911,fd=3))
udp UNCONN 0      0      [fe80::1]%eth0:546      [::]:*
tcp LISTEN 0      128                *:547           *:* users:(("kea",pid=7,fd=4))
tcp LISTEN 0      128             [::]:53      [::]:*
`;

const needs = { bridge: "br1", interfaces: [], addresses: ["10.9.0.1", "fd42::1"], listens: true, isMade: false };

describe("What is in the way of a network on a host", () => {
  it("is read from ss with address, interface and process", () => {
    assert.deepEqual(
      listenersIn(SS).map(({ address, bound, port, process }) => [address, bound, port, process]),
      [
        ["10.98.0.1", "", 53, "dnsmasq (pid 1227)"],
        ["0.0.0.0", "br98", 67, "dnsmasq (pid 1227)"],
        ["0.0.0.0", "", 22, "sshd (pid 135)"],
        ["0.0.0.0", "", 53, "my dns (pid 910)"],
        ["fe80::1", "eth0", 546, "a process that ss does not name"],
        ["*", "", 547, "kea (pid 7)"],
        ["::", "", 53, "a process that ss does not name"],
      ],
    );
  });

  it("is who listens on all addresses or on its own, not who listens for another bridge", () => {
    assert.deepEqual(holdersIn(needs, [], listenersIn(SS)), [
      "my dns (pid 910) listens on 0.0.0.0:53",
      "kea (pid 7) listens on *:547",
      "a process that ss does not name listens on [::]:53",
    ]);
    const own = { ...needs, addresses: ["10.98.0.1"] };
    assert.ok(holdersIn(own, [], listenersIn(SS)).includes("dnsmasq (pid 1227) listens on 10.98.0.1:53"));
  });

  it("is nobody who listens, for a network without addresses", () => {
    assert.deepEqual(holdersIn({ ...needs, addresses: [], listens: false }, [], listenersIn(SS)), []);
  });

  it("is not the network's own dnsmasq, nor its own bridge", () => {
    const made = { ...needs, bridge: "br98", addresses: ["10.98.0.1"], isMade: true };
    const bridge = { ifname: "br98", linkinfo: { info_kind: "bridge" }, addr_info: [{ local: "10.98.0.1" }] };
    const found = holdersIn(made, [bridge], listenersIn(SS));
    assert.ok(!found.some((each) => /dnsmasq|br98/.test(each)), found.join("\n"));
    assert.deepEqual(holdersIn({ ...made, isMade: false }, [bridge], []), ['an interface "br98" (bridge) exists already']);
  });

  it("is told apart from a bridge that has no DNS and DHCP", () => {
    const isServed = (more: object): boolean => isServedBy({ ...needs, isMade: true, ...more }, listenersIn(SS));
    assert.equal(isServed({ bridge: "br98" }), true);
    assert.equal(isServed({ addresses: ["10.98.0.1"] }), true);
    assert.equal(isServed({}), false);
  });

  it("is an interface that has its address, and one that is missing", () => {
    const eth0 = { ifname: "eth0", addr_info: [{ local: "10.9.0.1" }, {}] };
    const dummy = { ifname: "d0", linkinfo: { info_kind: "dummy" }, addr_info: [{ local: "fd42::1" }] };
    assert.deepEqual(holdersIn({ ...needs, interfaces: ["eth0", "eth7"] }, [eth0, dummy], []), [
      'there is no interface "eth7": it has eth0, d0',
      'the interface "eth0" has the address 10.9.0.1',
      'the interface "d0" (dummy) has the address fd42::1',
    ]);
  });
});
