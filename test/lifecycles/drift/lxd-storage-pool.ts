import type { SimulatedHost } from "../../../lab/simulated";
import { storagePoolLifecycle } from "../../../provider/resources/lxd-storage-pool";
import type { ManualChange } from "./manual-changes";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp, PART_ON_DOWN_MEMBER } from "./world";

const MADE_ELSEWHERE: ManualChange = {
  text: "the pool is removed, and created manually on another disk of bcn2",
  act: (lab) => {
    const { database } = lab.host("bcn2").daemon ?? {};
    const [, own] = [...(database?.pool("fast").nodes ?? [])].find(([member]) => member.name === "bcn2") ?? [];
    Object.assign(own?.config ?? {}, { source: "/dev/sdc", "volatile.initial_source": "/dev/sdc" });
  },
};

const RESTART = ["ssh bcn1 systemctl stop lxd.socket lxd.service", "ssh bcn1 systemctl start lxd.socket lxd.service"];

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
      lab: { flavour: program === "on LXD 6" ? "lxd-6" : "bookworm-lxd" },
      look: async (two) => {
        const canRead = ({ powered, daemon }: SimulatedHost): boolean => powered && daemon?.drivers.includes("btrfs") === true;
        const members = ["bcn1", "bcn2"].filter((name) => canRead(two.lab.host(name)));
        const views = members.map((target) => lookUp(two, "/1.0/storage-pools/fast", { target }));
        return [await lookUp(two, "/1.0/storage-pools/fast"), ...(await Promise.all(views))];
      },
    }),
  programs: { "on LXD 6": {}, "with a size for all members": { config: { size: "4GiB" }, memberConfig: {} } },

  object: {
    "the pool itself": {
      byHand: "lxc storage delete fast",
      answer: "recreated",
      why: "LXD has no pool with that name. It refuses to delete one that holds volumes",
    },
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing pool is adopted"),
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
      why: "LXD cannot convert a pool to another driver. It refuses to delete a pool that holds volumes",
    },
    description: {
      byHand: "lxc storage set fast --property description=mine",
      answer: "repaired",
      why: "the program defines it",
    },
    config: [
      { byHand: "lxc storage set fast user.team=b", answer: "repaired", why: "another value of a key of the program" },
      { byHand: "lxc storage unset fast user.team", answer: "repaired", why: "a missing key of the program" },
      {
        byHand: "lxc storage set fast rsync.bwlimit=10MB",
        answer: "ignored",
        why: "LXD or a user owns a key that the program does not set",
      },
      {
        byHand: "lxc storage unset fast user.pulumi.urn",
        answer: "ignored",
        why: "state identifies the pool by its name; the next change restores the ownership mark",
      },
      {
        program: "with a size for all members",
        byHand: "lxc storage set fast size=8GiB --target bcn1",
        answer: "refused",
        shows: ["memberConfig"],
        says: /Storage pool "fast" has 8GiB on bcn1, and LXD 5\.0\.2 cannot resize a pool \(config\.size\)/,
        cure: "lxc storage set fast size=4GiB --target bcn1",
        why: "a member-specific key holds for each member; another value on one of them shows as `memberConfig`",
      },
      {
        program: "with a size for all members",
        byHand: "lxc storage set fast size=4096MiB --target bcn1",
        answer: "ignored",
        why: "both values mean the same",
      },
    ],
    memberConfig: [
      {
        byHand: "lxc storage set fast size=8GiB --target bcn1",
        answer: "refused",
        says: /Storage pool "fast" has 8GiB on bcn1, and LXD 5\.0\.2 cannot resize a pool \(memberConfig\.bcn1\.size\)/,
        cure: "lxc storage set fast size=4GiB --target bcn1",
        why: "`size` on LXD 5.0, which stores the key and resizes nothing",
      },
      {
        program: "on LXD 6",
        byHand: "lxc storage set fast size=8GiB --target bcn1",
        answer: "refused",
        says: /Storage pool "fast" has 8GiB on bcn1, and LXD 6\.9 cannot shrink a pool \(memberConfig\.bcn1\.size\)\. Give the size that it has/,
        cure: { program: { memberConfig: { bcn1: { size: "8GiB" }, bcn2: { source: "/dev/sdb" } } } },
        why: "`size` on later LXD, which enlarges a pool and never shrinks it",
      },
      {
        byHand: "lxc storage set fast size=4096MiB --target bcn1",
        answer: "ignored",
        why: "both values mean the same",
      },
      {
        byHand: "lxc storage set fast size=30GiB --target bcn2",
        answer: "ignored",
        why: "a key that the program does not set for this member",
      },
      {
        byHand: MADE_ELSEWHERE,
        answer: "ignored",
        why: "`source` applies only at the creation of a pool; the output `sources` shows the location",
      },
    ],
  },

  outputs: {
    status: {
      byHand: {
        text: "LXD marks the pool as errored",
        act: (lab) => {
          const { database } = lab.host("bcn2").daemon ?? {};
          Object.assign(database?.pool("fast") ?? {}, { status: "Errored" });
        },
      },
      answer: "repaired",
      shows: ["config"],
      why: "a pool that is not `Created` is completed; it shows as a change of config, because no config is in effect",
    },
    memberStatus: [
      ...PART_ON_DOWN_MEMBER,
      {
        byHand: ["ssh bcn1 apt-get --yes remove btrfs-progs", ...RESTART],
        cure: ["ssh bcn1 apt-get --yes install btrfs-progs", ...RESTART],
        answer: "shown",
        why: "`Unavailable`, with a warning: LXD fails to read a pool for whose driver its host has no tools. Its part is assumed unchanged",
      },
    ],
    sources: {
      byHand: MADE_ELSEWHERE,
      answer: "shown",
      why: "it shows the location of the pool in LXD",
    },
  },
});
