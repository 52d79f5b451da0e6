import { networkForwardLifecycle } from "../../../provider/resources/lxd-network-forward";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp, POOL_AND_BRIDGE } from "./world";

const OF_SHOP = "lxdbr0 192.0.2.1";

export const networkForwardDrift = driftTable(networkForwardLifecycle, {
  given: {
    network: "lxdbr0",
    listenAddress: "192.0.2.1",
    target: "bcn1",
    description: "the shop",
    config: { target_address: "10.10.10.9", "user.team": "a" },
    ports: [
      { protocol: "tcp", listenPort: "80, 443", targetAddress: "10.10.10.10" },
      { protocol: "udp", listenPort: 53, targetPort: 5353, targetAddress: "10.10.10.11" },
    ],
  },
  start: () =>
    cluster({
      prepare: POOL_AND_BRIDGE,
      look: async (two) => {
        const all = (await lookUp(two, "/1.0/networks/lxdbr0/forwards", { recursion: "1" })) as { location: string }[];
        return all.filter(({ location }) => location === "bcn1");
      },
    }),
  programs: {},

  object: {
    "the forward itself": [
      {
        byHand: `lxc network forward delete ${OF_SHOP} --target bcn1`,
        answer: "recreated",
        why: "that member has no forward of that address",
      },
      {
        byHand: [
          `lxc network forward create ${OF_SHOP} target_address=10.10.10.7 --target bcn2`,
          `lxc network forward delete ${OF_SHOP} --target bcn1`,
        ],
        answer: "recreated",
        why: "a forward of another member is another forward, and stays",
      },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing forward is adopted"),
    network: { answer: "cannot drift", why: "LXD does not move a forward to another network, and removes it with its network" },
    project: { answer: "cannot drift", why: "LXD does not move a network to another project" },
    listenAddress: { answer: "cannot drift", why: "a forward is found by its address; LXD does not change it" },
    target: { answer: "cannot drift", why: "a forward is found by its member; LXD does not move it" },
    description: {
      byHand: `lxc network forward set ${OF_SHOP} --property description=mine --target bcn1`,
      answer: "repaired",
      why: "the program defines it",
    },
    config: [
      {
        byHand: `lxc network forward set ${OF_SHOP} target_address=10.10.10.8 --target bcn1`,
        answer: "repaired",
        why: "another value",
      },
      { byHand: `lxc network forward unset ${OF_SHOP} target_address --target bcn1`, answer: "repaired", why: "a missing key" },
      {
        byHand: `lxc network forward set ${OF_SHOP} user.other=1 --target bcn1`,
        answer: "repaired",
        why: "a key that the program does not set is removed",
      },
      {
        byHand: `lxc network forward unset ${OF_SHOP} user.pulumi.urn --target bcn1`,
        answer: "ignored",
        why: "state identifies the forward by network, address and member; the next change restores the ownership mark",
      },
    ],
    ports: [
      {
        byHand: `lxc network forward port add ${OF_SHOP} tcp 22 10.10.10.12 --target bcn1`,
        answer: "repaired",
        why: "ports that the program does not have are removed",
      },
      {
        byHand: `lxc network forward port remove ${OF_SHOP} udp 53 --target bcn1`,
        answer: "repaired",
        why: "missing ports",
      },
      {
        byHand: [
          `lxc network forward port remove ${OF_SHOP} tcp 80,443 --target bcn1`,
          `lxc network forward port add ${OF_SHOP} tcp 80,443 10.10.10.10 --target bcn1`,
        ],
        answer: "ignored",
        why: "the order of the ports does not matter",
      },
    ],
  },

  outputs: {},
});
