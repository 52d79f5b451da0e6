import { networkLifecycle } from "../../../provider/resources/lxd-network";
import type { Hand } from "./by-hand";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, powerOff, powerOn, see } from "./world";

const PORTS: Hand = {
  words: "each host has two more network ports",
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
        const views = members.map((target) => see(two, "/1.0/networks/lxdbr1", { target }));
        return [await see(two, "/1.0/networks/lxdbr1"), ...(await Promise.all(views))];
      },
    }),
  programs: { "with a port for all members": { config: { "bridge.external_interfaces": "eth1" }, memberConfig: {} } },

  object: {
    "the network itself": {
      byHand: "lxc network delete lxdbr1",
      answer: "made again",
      chosenAnew: "ipv6.address",
      why: "LXD says that there is none of that name. It deletes none that is in use",
    },
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether a network that others made is taken over"),
    name: { answer: "cannot drift", why: "LXD renames no network of a cluster; on a standalone server it is then made again" },
    project: { answer: "cannot drift", why: "LXD does not move a network to another project" },
    description: { byHand: "lxc network set lxdbr1 --property description=mine", answer: "repaired", why: "it is the program's" },
    config: [
      { byHand: "lxc network set lxdbr1 ipv4.nat=false", answer: "repaired", why: "another value of a key that was given" },
      { byHand: "lxc network set lxdbr1 ipv4.address=10.99.0.1/24", answer: "repaired", why: "an address that was given" },
      { byHand: "lxc network unset lxdbr1 user.team", answer: "repaired", why: "a key that was given is missing" },
      {
        byHand: "lxc network set lxdbr1 ipv6.address=none",
        answer: "repaired",
        chosenAnew: "ipv6.address",
        why: "`auto` is any address that LXD chose, but not none",
      },
      {
        byHand: "lxc network set lxdbr1 ipv6.address=fd42:1:2:3::1/64",
        answer: "left alone",
        why: "`auto` is any address; `effectiveConfig` tells which",
      },
      { byHand: "lxc network set lxdbr1 ipv4.nat=yes", answer: "left alone", why: "it means the same" },
      {
        byHand: "lxc network set lxdbr1 dns.domain=lab",
        answer: "left alone",
        why: "a key that was not given is LXD's, or a person's",
      },
      {
        byHand: "lxc network unset lxdbr1 user.pulumi.urn",
        answer: "left alone",
        why: "state knows the network by its name; the mark of its owner is written again with the next change",
      },
      {
        program: "with a port for all members",
        byHand: "lxc network set lxdbr1 bridge.external_interfaces=eth2 --target bcn1",
        answer: "repaired",
        shows: ["memberConfig"],
        why: "a key of members holds for each of them; where one has another value, it shows as `memberConfig`",
      },
    ],
    memberConfig: [
      {
        byHand: "lxc network set lxdbr1 bridge.external_interfaces=eth2 --target bcn1",
        answer: "repaired",
        why: "each member is looked at",
      },
      {
        byHand: "lxc network unset lxdbr1 bridge.external_interfaces --target bcn1",
        answer: "repaired",
        why: "a key that was given is missing on that member",
      },
      {
        byHand: "lxc network set lxdbr1 bridge.external_interfaces=eth2 --target bcn2",
        answer: "left alone",
        why: "a key that this member was not given",
      },
    ],
  },

  outputs: {
    status: {
      byHand: {
        words: "LXD marks the network as errored",
        act: (lab) => {
          Object.assign(lab.host("bcn2").daemon?.database.networks.get("lxdbr1") ?? {}, { status: "Errored" });
        },
      },
      answer: "repaired",
      shows: ["config"],
      chosenAnew: "ipv6.address",
      why: "a network that is not `Created` is finished; it shows as a change of config, none of which is in effect",
    },
    memberStatus: {
      byHand: powerOff("bcn1"),
      cure: powerOn("bcn1"),
      answer: "shown",
      why: "`Offline` for a member that cannot be asked; what it has is taken to be as it was",
    },
    effectiveConfig: {
      byHand: "lxc network set lxdbr1 dns.mode=none",
      answer: "shown",
      why: "it is all that LXD has, given or not",
    },
  },
});
