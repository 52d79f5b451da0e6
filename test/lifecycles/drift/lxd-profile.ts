import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import type { ManualChange } from "./manual-changes";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp, POOL_AND_BRIDGE } from "./world";

const MACHINE: ManualChange = {
  text: "a virtual machine has the profile",
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
      look: async (two) => [await lookUp(two, "/1.0/profiles/web"), await lookUp(two, "/1.0/profiles/default")],
    }),
  programs: { "in use by a virtual machine": { adopt: true, devices: {} } },

  object: {
    "the profile itself": [
      { byHand: "lxc profile delete web", answer: "recreated", why: "LXD has no profile with that name" },
      {
        byHand: ["lxc profile delete web", "lxc profile create web"],
        answer: "repaired",
        shows: ["config", "description", "devices"],
        why: "a profile is identified by its name",
      },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing profile is adopted"),
    name: {
      byHand: "lxc profile rename web www",
      answer: "recreated",
      why: "a profile is found by its name. The renamed one stays, with its instances, and their LxdVm shows it",
    },
    project: { answer: "cannot drift", why: "LXD does not move a profile to another project" },
    description: { byHand: "lxc profile set web --property description=mine", answer: "repaired", why: "the program defines it" },
    config: [
      { byHand: "lxc profile set web user.role=db", answer: "repaired", why: "another value" },
      { byHand: "lxc profile unset web user.role", answer: "repaired", why: "a missing key" },
      {
        byHand: "lxc profile set web boot.autostart.priority=5",
        answer: "repaired",
        why: "the program defines all config: a key that it does not set is removed",
      },
      {
        byHand: "lxc profile set web limits.memory=4096MiB boot.autostart=1",
        answer: "ignored",
        why: "both values mean the same: sizes and booleans are compared by meaning",
      },
      {
        byHand: "lxc profile set web user.pulumi.note=x",
        answer: "ignored",
        why: "keys below user.pulumi. belong to this package; no program can set them",
      },
      {
        byHand: "lxc profile unset web user.pulumi.urn",
        answer: "ignored",
        why: "state identifies the profile by its name; the next change restores the ownership mark",
      },
      {
        program: "in use by a virtual machine",
        byHand: "lxc profile set web limits.memory=2GiB",
        answer: "repaired",
        why: "running virtual machines accept memory up to their size at the start",
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
      { byHand: "lxc profile device remove web data", answer: "repaired", why: "a missing device" },
      {
        byHand: "lxc profile device add web eth1 nic network=lxdbr0",
        answer: "repaired",
        why: "the program defines all devices: one that it does not list is removed",
      },
      { byHand: "lxc profile device set web data readonly=yes", answer: "ignored", why: "both values mean the same" },
    ],
  },

  outputs: {
    waiting: {
      answer: "cannot drift",
      why: "instances that did not apply this program's change; a restarted one is no longer listed",
    },
    original: { answer: "cannot drift", why: "the former content of the profile `default`; it is stored in state only" },
  },
});
