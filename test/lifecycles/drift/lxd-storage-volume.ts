import { storageVolumeLifecycle } from "../../../provider/resources/lxd-storage-volume";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp, POOL_AND_BRIDGE } from "./world";

const PATH = "/1.0/storage-pools/default/volumes/custom";

export const storageVolumeDrift = driftTable(storageVolumeLifecycle, {
  given: {
    name: "data",
    pool: "default",
    target: "bcn1",
    description: "the orders",
    config: { size: "4GiB", "snapshots.schedule": "@daily" },
    deleteData: true,
  },
  start: () =>
    cluster({
      prepare: POOL_AND_BRIDGE,
      look: async (two) => [
        await lookUp(two, `${PATH}/data`, { target: "bcn1" }),
        await lookUp(two, `${PATH}/data`, { target: "bcn2" }),
        await lookUp(two, "/1.0/profiles/default"),
      ],
    }),
  programs: { "that keeps the data": { deleteData: false }, "with blocks": { contentType: "block", config: { size: "4GiB" } } },

  object: {
    "the volume itself": [
      {
        byHand: "lxc storage volume delete default data --target bcn1",
        answer: "recreated",
        why: "the pool has no volume with that name on that member",
      },
      {
        byHand: "lxc storage volume create default data --target bcn2",
        answer: "ignored",
        cure: "lxc storage volume delete default data --target bcn2",
        why: "a volume with the same name on another member is another volume",
      },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing volume is adopted"),
    deleteData: how("whether the volume may be removed with its data"),
    name: { answer: "cannot drift", why: "a volume is found by its name; a renamed one no longer exists" },
    pool: { answer: "cannot drift", why: "a volume is found in its pool; one that was moved no longer exists there" },
    project: { answer: "cannot drift", why: "a volume is found in its project; one that was moved no longer exists there" },
    target: { answer: "cannot drift", why: "a volume is found on its member; one that was moved no longer exists there" },
    source: how("the volume of which it was once made as a copy"),
    contentType: [
      {
        byHand: [
          "lxc storage volume delete default data --target bcn1",
          {
            text: "the volume is created again with `--type block`",
            act: (lab) =>
              lab.byHand("bcn2", "POST", `${PATH}?target=bcn1`, { name: "data", content_type: "block" }).then(() => undefined),
          },
        ],
        answer: "replaced",
        shows: ["contentType", "config", "description"],
        why: "LXD cannot convert a volume. Without `deleteData`, this is refused",
      },
      {
        program: "that keeps the data",
        byHand: [
          "lxc storage volume delete default data --target bcn1",
          {
            text: "the volume is created again with `--type block`",
            act: (lab) =>
              lab.byHand("bcn2", "POST", `${PATH}?target=bcn1`, { name: "data", content_type: "block" }).then(() => undefined),
          },
        ],
        answer: "refused",
        shows: ["contentType", "config", "description"],
        says: /Storage volume "data" of pool "default" on bcn1 on .* is not removed, because it may hold data/,
        cure: "lxc storage volume delete default data --target bcn1",
        why: "the volume may hold data",
      },
    ],
    description: {
      byHand: "lxc storage volume set default data --property description=mine --target bcn1",
      answer: "repaired",
      why: "the program defines it",
    },
    config: [
      {
        byHand: "lxc storage volume set default data snapshots.schedule=@hourly --target bcn1",
        answer: "repaired",
        why: "another value of a key of the program",
      },
      {
        byHand: "lxc storage volume unset default data size --target bcn1",
        answer: "repaired",
        why: "a missing key of the program",
      },
      {
        byHand: "lxc storage volume set default data size=8GiB --target bcn1",
        answer: "repaired",
        why: "the size of a file system can be reduced to the program's",
      },
      {
        program: "with blocks",
        byHand: "lxc storage volume set default data size=8GiB --target bcn1",
        answer: "refused",
        says: /has 8GiB, and a block volume cannot be shrunk \(config\.size\)\. Give the size that it has/,
        cure: { program: { config: { size: "8GiB" } } },
        why: "LXD never shrinks blocks",
      },
      {
        byHand: "lxc storage volume set default data size=4096MiB --target bcn1",
        answer: "ignored",
        why: "both values mean the same",
      },
      {
        byHand: "lxc storage volume set default data security.shifted=true --target bcn1",
        answer: "ignored",
        why: "LXD or a user owns a key that the program does not set",
      },
      {
        byHand: "lxc storage volume unset default data user.pulumi.urn --target bcn1",
        answer: "ignored",
        why: "state identifies the volume by its name and place; the next change restores the ownership mark",
      },
    ],
  },

  outputs: {
    location: { answer: "cannot drift", why: "a volume is found on its member; one that was moved no longer exists there" },
  },
});
