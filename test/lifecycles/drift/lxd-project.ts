import { projectLifecycle } from "../../../provider/resources/lxd-project";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, see } from "./world";

export const projectDrift = driftTable(projectLifecycle, {
  given: {
    name: "shop",
    description: "the shop",
    config: { "features.images": false, "limits.memory": "4GiB", restricted: true },
  },
  start: () => cluster({ look: async (two) => [await see(two, "/1.0/projects/shop"), await see(two, "/1.0/projects/default")] }),
  programs: {},

  object: {
    "the project itself": [
      { byHand: "lxc project delete shop", answer: "made again", why: "LXD says that there is none of that name" },
      {
        byHand: ["lxc project delete shop", "lxc project create shop"],
        answer: "repaired",
        shows: ["config", "description"],
        why: "a project is known by its name",
      },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether a project that others made is taken over"),
    name: { answer: "cannot drift", why: "a project is found by its name; one that was renamed is not there any more" },
    description: { byHand: "lxc project set shop --property description=mine", answer: "repaired", why: "it is the program's" },
    config: [
      { byHand: "lxc project set shop limits.memory=2GiB", answer: "repaired", why: "another value" },
      { byHand: "lxc project unset shop restricted", answer: "repaired", why: "a key that is missing" },
      { byHand: "lxc project set shop limits.cpu=4", answer: "repaired", why: "a key that the program does not give is removed" },
      {
        byHand: "lxc project set shop features.storage.volumes=false",
        answer: "left alone",
        why: "a feature that the program does not give is LXD's",
      },
      { byHand: "lxc project set shop features.images=true", answer: "repaired", why: "the project is empty" },
      {
        byHand: ["lxc project set shop features.images=true", "lxc profile create web --project shop"],
        answer: "refused",
        says: /Project "shop" holds profile web, and LXD changes features\.images of an empty project only\. Nothing was changed/,
        cure: "lxc profile delete web --project shop",
        why: "LXD changes no feature of a project that holds something",
      },
      {
        byHand: "lxc project set shop limits.memory=4096MiB restricted=1",
        answer: "left alone",
        why: "it means the same: sizes and booleans are compared by what they mean",
      },
      {
        byHand: "lxc project unset shop user.pulumi.urn",
        answer: "left alone",
        why: "state knows the project by its name; the mark of its owner is written again with the next change",
      },
    ],
  },

  outputs: {},
});
