import { storagePoolLifecycle } from "../../../provider/resources/lxd-storage-pool";
import type { Hand } from "./by-hand";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, powerOff, powerOn, see } from "./world";

const MADE_ELSEWHERE: Hand = {
  words: "the pool is removed, and made by hand on another disk of bcn2",
  act: (lab) => {
    const { database } = lab.host("bcn2").daemon ?? {};
    const [, own] = [...(database?.pool("fast").nodes ?? [])].find(([member]) => member.name === "bcn2") ?? [];
    Object.assign(own?.config ?? {}, { source: "/dev/sdc", "volatile.initial_source": "/dev/sdc" });
  },
};

export const storagePoolDrift = driftTable(storagePoolLifecycle, {
  given: {
    name: "fast",
    driver: "btrfs",
    description: "for databases",
    config: { "user.team": "a", "btrfs.mount_options": "noatime" },
    memberConfig: { bcn1: { size: "4GiB" }, bcn2: { source: "/dev/sdb" } },
  },
  start: (program) =>
    cluster({
      lab: { lxdVersion: program === "on LXD 6" ? "6.9" : "5.0.2" },
      look: async (two) => {
        const members = ["bcn1", "bcn2"].filter((name) => two.lab.host(name).powered);
        const views = members.map((target) => see(two, "/1.0/storage-pools/fast", { target }));
        return [await see(two, "/1.0/storage-pools/fast"), ...(await Promise.all(views))];
      },
    }),
  programs: { "on LXD 6": {}, "with a size for all members": { config: { size: "4GiB" }, memberConfig: {} } },

  object: {
    "the pool itself": {
      byHand: "lxc storage delete fast",
      answer: "made again",
      why: "LXD says that there is none of that name. It deletes none that holds volumes",
    },
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether a pool that others made is taken over"),
    name: { answer: "cannot drift", why: "LXD does not rename pools" },
    driver: {
      byHand: [
        "lxc storage delete fast",
        "lxc storage create fast dir --target bcn1",
        "lxc storage create fast dir --target bcn2",
        "lxc storage create fast dir",
      ],
      answer: "replaced",
      shows: ["config", "description", "driver", "memberConfig"],
      why: "LXD does not turn one driver into another. It refuses to remove a pool that holds volumes",
    },
    description: { byHand: "lxc storage set fast --property description=mine", answer: "repaired", why: "it is the program's" },
    config: [
      { byHand: "lxc storage set fast user.team=b", answer: "repaired", why: "another value of a key that was given" },
      { byHand: "lxc storage unset fast user.team", answer: "repaired", why: "a key that was given is missing" },
      {
        byHand: "lxc storage set fast rsync.bwlimit=10MB",
        answer: "left alone",
        why: "a key that was not given is LXD's, or a person's",
      },
      {
        byHand: "lxc storage unset fast user.pulumi.urn",
        answer: "left alone",
        why: "state knows the pool by its name; the mark of its owner is written again with the next change",
      },
      {
        program: "with a size for all members",
        byHand: "lxc storage set fast size=8GiB --target bcn1",
        answer: "refused",
        shows: ["memberConfig"],
        says: /Storage pool "fast" has 8GiB on bcn1, and LXD 5\.0\.2 cannot resize a pool \(config\.size\)/,
        cure: "lxc storage set fast size=4GiB --target bcn1",
        why: "a key of members holds for each of them; where one has another value, it shows as `memberConfig`",
      },
      {
        program: "with a size for all members",
        byHand: "lxc storage set fast size=4096MiB --target bcn1",
        answer: "left alone",
        why: "it means the same",
      },
    ],
    memberConfig: [
      {
        byHand: "lxc storage set fast size=8GiB --target bcn1",
        answer: "refused",
        says: /Storage pool "fast" has 8GiB on bcn1, and LXD 5\.0\.2 cannot resize a pool \(memberConfig\.bcn1\.size\)/,
        cure: "lxc storage set fast size=4GiB --target bcn1",
        why: "`size` on LXD 5.0, which takes the key and resizes nothing",
      },
      {
        program: "on LXD 6",
        byHand: "lxc storage set fast size=8GiB --target bcn1",
        answer: "refused",
        says: /Storage pool "fast" has 8GiB on bcn1, and LXD 6\.9 cannot shrink a pool \(memberConfig\.bcn1\.size\)\. Give the size that it has/,
        cure: { program: { memberConfig: { bcn1: { size: "8GiB" }, bcn2: { source: "/dev/sdb" } } } },
        why: "`size` on later LXD, which makes a pool larger and never smaller",
      },
      {
        byHand: "lxc storage set fast size=4096MiB --target bcn1",
        answer: "left alone",
        why: "it means the same",
      },
      {
        byHand: "lxc storage set fast size=30GiB --target bcn2",
        answer: "left alone",
        why: "a key that this member was not given",
      },
      {
        byHand: MADE_ELSEWHERE,
        answer: "left alone",
        why: "`source` matters when a pool is made; the output `sources` tells where it is",
      },
    ],
  },

  outputs: {
    status: {
      byHand: {
        words: "LXD marks the pool as errored",
        act: (lab) => {
          const { database } = lab.host("bcn2").daemon ?? {};
          Object.assign(database?.pool("fast") ?? {}, { status: "Errored" });
        },
      },
      answer: "repaired",
      shows: ["config"],
      why: "a pool that is not `Created` is finished; it shows as a change of config, none of which is in effect",
    },
    memberStatus: {
      byHand: powerOff("bcn1"),
      cure: powerOn("bcn1"),
      answer: "shown",
      why: "`Offline` for a member that cannot be asked; what it has is taken to be as it was",
    },
    sources: {
      byHand: MADE_ELSEWHERE,
      answer: "shown",
      why: "it is where LXD says that the pool is",
    },
  },
});
