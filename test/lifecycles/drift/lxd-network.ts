import { networkLifecycle } from "../../../provider/resources/lxd-network";
import type { ManualChange } from "./manual-changes";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp, PART_ON_DOWN_MEMBER } from "./world";

const PORTS: ManualChange = {
  text: "each host has two more network ports",
  act: (lab) => {
    for (const { interfaces } of lab.hosts) {
      for (const port of ["eth1", "eth2"]) {
        interfaces.set(port, { type: "physical", hwaddr: "52:54:00:00:02:01", addresses: [] });
      }
    }
  },
};

export const networkDrift = driftTable(networkLifecycle, {
  given: {
    name: "lxdbr1",
    description: "for guests",
    config: { "ipv4.address": "10.20.0.1/24", "ipv4.nat": true, "ipv6.address": "auto", "user.team": "a" },
    memberConfig: { bcn1: { "bridge.external_interfaces": "eth1" } },
  },
  start: () =>
    cluster({
      prepare: [PORTS],
      look: async (two) => {
        const members = ["bcn1", "bcn2"].filter((name) => two.lab.host(name).powered);
        const views = members.map((target) => lookUp(two, "/1.0/networks/lxdbr1", { target }));
        return [await lookUp(two, "/1.0/networks/lxdbr1"), ...(await Promise.all(views))];
      },
    }),
  programs: { "with a port for all members": { config: { "bridge.external_interfaces": "eth1" }, memberConfig: {} } },

  object: {
    "the network itself": {
      byHand: "lxc network delete lxdbr1",
      answer: "recreated",
      chosenAnew: "ipv6.address",
      why: "LXD has no network with that name. It refuses to delete one in use",
    },
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing network is adopted"),
    name: {
      answer: "cannot drift",
      why: "LXD does not rename networks of a cluster; on a standalone server the network is then recreated",
    },
    project: { answer: "cannot drift", why: "LXD does not move a network to another project" },
    type: { answer: "cannot drift", why: "LXD does not change the type of a network" },
    description: {
      byHand: "lxc network set lxdbr1 --property description=mine",
      answer: "repaired",
      why: "the program defines it",
    },
    config: [
      { byHand: "lxc network set lxdbr1 ipv4.nat=false", answer: "repaired", why: "another value of a key of the program" },
      { byHand: "lxc network set lxdbr1 ipv4.address=10.99.0.1/24", answer: "repaired", why: "an address of the program" },
      { byHand: "lxc network unset lxdbr1 user.team", answer: "repaired", why: "a missing key of the program" },
      {
        byHand: "lxc network set lxdbr1 ipv6.address=none",
        answer: "repaired",
        chosenAnew: "ipv6.address",
        why: "`auto` accepts any address that LXD chose, but not none",
      },
      {
        byHand: "lxc network set lxdbr1 ipv6.address=fd42:1:2:3::1/64",
        answer: "ignored",
        why: "`auto` accepts any address; `effectiveConfig` shows it",
      },
      { byHand: "lxc network set lxdbr1 ipv4.nat=yes", answer: "ignored", why: "both values mean the same" },
      {
        byHand: "lxc network set lxdbr1 dns.domain=lab",
        answer: "ignored",
        why: "LXD or a user owns a key that the program does not set",
      },
      {
        byHand: "lxc network unset lxdbr1 user.pulumi.urn",
        answer: "ignored",
        why: "state identifies the network by its name; the next change restores the ownership mark",
      },
      {
        program: "with a port for all members",
        byHand: "lxc network set lxdbr1 bridge.external_interfaces=eth2 --target bcn1",
        answer: "repaired",
        shows: ["memberConfig"],
        why: "a member-specific key holds for each member; another value on one of them shows as `memberConfig`",
      },
    ],
    memberConfig: [
      {
        byHand: "lxc network set lxdbr1 bridge.external_interfaces=eth2 --target bcn1",
        answer: "repaired",
        why: "each member is checked",
      },
      {
        byHand: "lxc network unset lxdbr1 bridge.external_interfaces --target bcn1",
        answer: "repaired",
        why: "a missing key of the program on that member",
      },
      {
        byHand: "lxc network set lxdbr1 bridge.external_interfaces=eth2 --target bcn2",
        answer: "ignored",
        why: "a key that the program does not set for this member",
      },
    ],
  },

  outputs: {
    status: {
      byHand: {
        text: "LXD marks the network as errored",
        act: (lab) => {
          Object.assign(lab.host("bcn2").daemon?.database.networks.get("lxdbr1") ?? {}, { status: "Errored" });
        },
      },
      answer: "repaired",
      shows: ["config"],
      chosenAnew: "ipv6.address",
      why: "a network that is not `Created` is completed; it shows as a change of config, because no config is in effect",
    },
    memberStatus: PART_ON_DOWN_MEMBER,
    effectiveConfig: {
      byHand: "lxc network set lxdbr1 dns.mode=none",
      answer: "shown",
      why: "it shows all config of LXD, set by the program or not",
    },
  },
});
