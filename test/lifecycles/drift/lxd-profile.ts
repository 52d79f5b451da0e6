import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import type { Hand } from "./by-hand";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, POOL_AND_BRIDGE, see } from "./world";

const MACHINE: Hand = {
  words: "a virtual machine has the profile",
  act: (lab) => {
    lab.seedInstances(1, { host: "bcn2", prefix: "db", profiles: ["default", "web"] });
  },
};

export const profileDrift = driftTable(profileLifecycle, {
  given: {
    name: "web",
    description: "web servers",
    config: { "limits.memory": "4GiB", "boot.autostart": true, "user.role": "web" },
    devices: { data: { type: "disk", source: "/srv", path: "/data", readonly: true } },
  },
  start: (program) =>
    cluster({
      prepare:
        program === "in use by a virtual machine"
          ? [...POOL_AND_BRIDGE, "lxc profile create web", "lxc profile set web limits.memory=4GiB", MACHINE]
          : POOL_AND_BRIDGE,
      look: async (two) => [await see(two, "/1.0/profiles/web"), await see(two, "/1.0/profiles/default")],
    }),
  programs: { "in use by a virtual machine": { adopt: true } },

  object: {
    "the profile itself": [
      { byHand: "lxc profile delete web", answer: "made again", why: "LXD says that there is none of that name" },
      {
        byHand: ["lxc profile delete web", "lxc profile create web"],
        answer: "repaired",
        shows: ["config", "description", "devices"],
        why: "a profile is known by its name",
      },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether a profile that others made is taken over"),
    name: {
      byHand: "lxc profile rename web www",
      answer: "made again",
      why: "a profile is found by its name. The renamed one stays, with the instances that have it, and their LxdVm shows it",
    },
    project: { answer: "cannot drift", why: "LXD does not move a profile to another project" },
    description: { byHand: "lxc profile set web --property description=mine", answer: "repaired", why: "it is the program's" },
    config: [
      { byHand: "lxc profile set web user.role=db", answer: "repaired", why: "another value" },
      { byHand: "lxc profile unset web user.role", answer: "repaired", why: "a key that is missing" },
      {
        byHand: "lxc profile set web boot.autostart.priority=5",
        answer: "repaired",
        why: "all config is the program's: a key that it does not give is removed",
      },
      {
        byHand: "lxc profile set web limits.memory=4096MiB boot.autostart=1",
        answer: "left alone",
        why: "it means the same: sizes and booleans are compared by what they mean",
      },
      {
        byHand: "lxc profile set web user.pulumi.note=x",
        answer: "left alone",
        why: "keys of user.pulumi. are this package's own; no program can give them",
      },
      {
        byHand: "lxc profile unset web user.pulumi.urn",
        answer: "left alone",
        why: "state knows the profile by its name; the mark of its owner is written again with the next change",
      },
      {
        program: "in use by a virtual machine",
        byHand: "lxc profile set web limits.memory=2GiB",
        answer: "repaired",
        why: "running virtual machines give memory back up to the size that they started with",
      },
      {
        program: "in use by a virtual machine",
        byHand: ["lxc stop db1", "lxc profile set web limits.memory=2GiB", "lxc start db1"],
        answer: "deferred",
        says: /Profile "web" was changed, and 1 instance \(db1\) did not take the change[^]*Stop and start the others yourself, or undo the change/,
        cure: ["lxc stop db1", "lxc start db1"],
        why: "no instance is stopped for its profile",
      },
    ],
    devices: [
      { byHand: "lxc profile device set web data readonly=false", answer: "repaired", why: "another option" },
      { byHand: "lxc profile device remove web data", answer: "repaired", why: "a device that is missing" },
      {
        byHand: "lxc profile device add web eth1 nic network=lxdbr0",
        answer: "repaired",
        why: "all devices are the program's: one that it does not give is removed",
      },
      { byHand: "lxc profile device set web data readonly=yes", answer: "left alone", why: "it means the same" },
    ],
  },

  outputs: {
    waiting: {
      answer: "cannot drift",
      why: "instances that have not taken what this program has written; one that is started again is no longer among them",
    },
    original: { answer: "cannot drift", why: "what the profile `default` held before; it is kept in state alone" },
  },
});
