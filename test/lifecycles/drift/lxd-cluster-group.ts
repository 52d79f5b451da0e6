import { clusterGroupLifecycle } from "../../../provider/resources/lxd-cluster-group";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp } from "./world";

export const clusterGroupDrift = driftTable(clusterGroupLifecycle, {
  given: { name: "gpu", description: "with a GPU", members: ["bcn1"] },
  start: () =>
    cluster({
      prepare: ["lxc cluster group create ssd", "lxc cluster group assign bcn1 default,ssd"],
      look: async (two) => [await lookUp(two, "/1.0/cluster/groups/gpu"), await lookUp(two, "/1.0/cluster/groups/ssd")],
    }),
  programs: {},

  object: {
    "the group itself": [
      {
        byHand: ["lxc cluster group remove bcn1 gpu", "lxc cluster group delete gpu"],
        answer: "recreated",
        why: "the cluster has no group with that name",
      },
      { byHand: "lxc cluster group rename gpu other", answer: "recreated", why: "a group is identified by its name" },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing group is adopted"),
    name: { answer: "cannot drift", why: "a group is found by its name; a renamed one no longer exists" },
    description: {
      byHand: {
        text: "`lxc cluster group edit gpu` with another description",
        act: (lab) =>
          lab.byHand("bcn2", "PUT", "/1.0/cluster/groups/gpu", { description: "mine", members: ["bcn1"] }).then(() => undefined),
      },
      answer: "repaired",
      why: "the program defines it",
    },
    members: [
      { byHand: "lxc cluster group add bcn2 gpu", answer: "repaired", why: "a member that the program does not name is removed" },
      { byHand: "lxc cluster group remove bcn1 gpu", answer: "repaired", why: "a missing member" },
      {
        byHand: "lxc cluster group assign bcn1 gpu",
        answer: "ignored",
        why: "the other groups of a member are not this group's",
      },
    ],
  },

  outputs: {},
});
