import { projectLifecycle } from "../../../provider/resources/lxd-project";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp } from "./world";

export const projectDrift = driftTable(projectLifecycle, {
  given: {
    name: "shop",
    description: "the shop",
    config: { "features.images": false, "limits.memory": "4GiB", restricted: true },
  },
  start: () =>
    cluster({ look: async (two) => [await lookUp(two, "/1.0/projects/shop"), await lookUp(two, "/1.0/projects/default")] }),
  programs: {},

  object: {
    "the project itself": [
      { byHand: "lxc project delete shop", answer: "recreated", why: "LXD has no project with that name" },
      {
        byHand: ["lxc project delete shop", "lxc project create shop"],
        answer: "repaired",
        shows: ["config", "description"],
        why: "a project is identified by its name",
      },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing project is adopted"),
    name: { answer: "cannot drift", why: "a project is found by its name; a renamed one no longer exists" },
    description: {
      byHand: "lxc project set shop --property description=mine",
      answer: "repaired",
      why: "the program defines it",
    },
    config: [
      { byHand: "lxc project set shop limits.memory=2GiB", answer: "repaired", why: "another value" },
      { byHand: "lxc project unset shop restricted", answer: "repaired", why: "a missing key" },
      { byHand: "lxc project set shop limits.cpu=4", answer: "repaired", why: "a key that the program does not set is removed" },
      {
        byHand: "lxc project set shop features.storage.volumes=false",
        answer: "ignored",
        why: "LXD decides a feature that the program does not set",
      },
      { byHand: "lxc project set shop features.images=true", answer: "repaired", why: "the project is empty" },
      {
        byHand: ["lxc project set shop features.images=true", "lxc profile create web --project shop"],
        answer: "refused",
        says: /Project "shop" holds profile web, and features\.images can be changed only in an empty project\. Nothing was changed/,
        cure: "lxc profile delete web --project shop",
        why: "LXD changes no feature of a project that is not empty",
      },
      {
        byHand: "lxc project set shop limits.memory=4096MiB restricted=1",
        answer: "ignored",
        why: "both values mean the same: sizes and booleans are compared by meaning",
      },
      {
        byHand: "lxc project unset shop user.pulumi.urn",
        answer: "ignored",
        why: "state identifies the project by its name; the next change restores the ownership mark",
      },
    ],
  },

  outputs: {},
});
