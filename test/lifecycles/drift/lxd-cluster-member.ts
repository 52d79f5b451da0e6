import { SimulatedLab } from "../../../lab/simulated";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { clusterMemberLifecycle } from "../../../provider/resources/lxd-cluster-member";
import { connectionSchema } from "../../../provider/transport/connection";
import { disconnectAll } from "../../../provider/transport/pool";
import { byHand, type ManualChange } from "./manual-changes";
import { driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, evacuateAndPowerOff, powerOff, powerOn, powerOnAndRestore, type World } from "./world";

function databaseOf(lab: SimulatedLab) {
  const { daemon } = lab.host("bcn2");
  if (daemon === undefined) {
    throw new Error("bcn2 has no LXD");
  }
  return daemon.database;
}

/** `lxc cluster edit bcn1`, which opens an editor. */
function edit(text: string, change: (member: ReturnType<typeof databaseOf>["members"][number]) => void): ManualChange {
  return { text: `\`lxc cluster edit bcn1\`, ${text}`, act: (lab) => change(databaseOf(lab).member("bcn1")) };
}

function otherAddress(address: string): ManualChange {
  return {
    text: `\`lxd cluster edit\`, \`address: ${address}\`, while LXD is stopped everywhere`,
    act: (lab) => {
      databaseOf(lab).member("bcn1").address = address;
    },
  };
}

let former: ReturnType<typeof databaseOf>["certificate"];

const RENEWED: ManualChange = {
  text: "`lxc cluster update-certificate`",
  act: (lab) => {
    former = databaseOf(lab).certificate;
    databaseOf(lab).certificate = makeCertificate("cluster");
  },
};

async function start(): Promise<World> {
  const lab = await SimulatedLab.start({
    hosts: [
      { name: "bcn2", lxd: "deb", lanAddress: "192.168.1.102" },
      { name: "bcn1", lxd: "deb", lanAddress: "192.168.1.101" },
    ],
  });
  await byHand(lab, ["lxc config set core.https_address=192.168.1.102:8443", "lxc cluster enable bcn2"]);
  const connection = (name: string) => connectionSchema.parse(lab.host(name).connection);
  return {
    lab,
    reach: { connection: connection("bcn1"), cluster: { endpoints: [connection("bcn2")] } },
    look: async () => {
      const database = databaseOf(lab);
      const members = database.members.map(({ daemon, ...member }) => [member, daemon.answers, daemon.localConfig]);
      return structuredClone([members, database.voters.map(({ name }) => name), database.certificate]);
    },
    stop: async () => {
      await disconnectAll();
      await lab.stop();
    },
  };
}

export const clusterMemberDrift = driftTable(clusterMemberLifecycle, {
  given: { name: "bcn1", address: "192.168.1.101", failureDomain: "rack1", config: { "scheduler.instance": "group" } },
  start,
  programs: {
    "with a description": { description: "disks" },
    "with a role": { manualRoles: ["event-hub"] },
    evacuated: { evacuated: true },
    "not evacuated": { evacuated: false },
  },

  object: {
    "the membership itself": {
      byHand: "lxc cluster remove bcn1",
      answer: "repaired",
      shows: ["memberConfig"],
      startsLxdAnew: true,
      why: "its `status` is `Left`: if it holds nothing, it is cleaned and joins again. LXD removes no member that has instances or volumes",
    },
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    connection: how("how to reach the host"),
    cluster: how("the members through which the cluster is reached, and its identity"),
    peers: how("other hosts through which the first member finds its cluster"),
    certificateFingerprint: [
      {
        byHand: RENEWED,
        answer: "error",
        says: /is not the expected cluster, whose certificate is [0-9a-f]{64}: it answers as the member "bcn2" of the cluster with the certificate [0-9a-f]{64}\n.* it answers as the member "bcn1" of .*\nNothing was done there\. If the cluster's certificate was renewed .* set it in the program: certificateFingerprint: "[0-9a-f]{64}"/,
        cure: {
          text: "the former certificate is restored",
          act: (lab) => {
            databaseOf(lab).certificate = former;
          },
        },
        why: "the certificate identifies a cluster. The program confirms a renewed one, with `pulumi up --refresh=false` once",
      },
    ],
    timeouts: TIMEOUTS,
    adopt: how("whether an unmanaged membership is adopted"),
    trustPassword: how("the cluster's password, used at the join"),
    memberConfig: how("config of the host's pools and networks, used at the join; afterwards the pools and networks manage it"),
    name: {
      byHand: "lxc cluster rename bcn1 old1",
      answer: "refused",
      says: /already in a cluster, as "old1"\. Use that name, or rename it there \(lxc cluster rename old1 bcn1\)/,
      cure: "lxc cluster rename old1 bcn1",
      why: "a member is found by its name, so the preview shows a new one; but a host can be in a cluster only once. Renamed back, it is adopted with `adopt: true`",
    },
    address: [
      {
        byHand: otherAddress("192.168.1.111:8443"),
        answer: "replaced",
        startsLxdAnew: true,
        why: "a running LXD cannot change the address of a member",
      },
      {
        byHand: [
          {
            text: "an instance is on it",
            act: async (lab) => {
              const pool = "lxc storage create default dir";
              await byHand(lab, [`${pool} --target bcn1`, `${pool} --target bcn2`, pool]);
              const devices = { root: { type: "disk", path: "/", pool: "default" } };
              lab.seedInstances(1, { host: "bcn2", devices, running: false });
            },
          },
          otherAddress("192.168.1.111:8443"),
        ],
        answer: "refused",
        says: /Member bcn1 is not empty: .*vm1.*Nothing was changed.*Move these to other members/,
        cure: ["lxc delete vm1", otherAddress("192.168.1.101:8443")],
        why: "a member that holds anything is not removed from its cluster",
      },
    ],
    failureDomain: {
      byHand: edit("`failure_domain: rack9`", (member) => {
        member.failureDomain = "rack9";
      }),
      answer: "repaired",
      why: "the program defines it",
    },
    config: [
      { byHand: "lxc cluster set bcn1 scheduler.instance=manual", answer: "repaired", why: "another value" },
      { byHand: "lxc cluster unset bcn1 scheduler.instance", answer: "repaired", why: "a missing key" },
      {
        byHand: "lxc cluster set bcn1 user.note=x",
        answer: "repaired",
        why: "the program defines all config of the member: a key that it does not set is removed",
      },
      {
        byHand: "lxc cluster unset bcn1 user.pulumi.urn",
        answer: "ignored",
        why: "state identifies the member by its name; the next change restores the ownership mark",
      },
      {
        byHand: edit("`groups: [default, ssd]`", (member) => {
          member.groups = ["default", "ssd"];
        }),
        answer: "ignored",
        why: "groups are not properties of this resource, and are kept at every change",
      },
    ],
    manualRoles: [
      {
        byHand: "lxc cluster role add bcn1 event-hub",
        answer: "ignored",
        why: "the program does not give any, and they are kept at every change",
      },
      {
        program: "with a role",
        byHand: "lxc cluster role add bcn1 ovn-chassis",
        answer: "repaired",
        why: "the program gives all roles that a person assigns",
      },
      {
        program: "with a role",
        byHand: "lxc cluster role remove bcn1 event-hub",
        answer: "repaired",
        why: "the program gives it",
      },
    ],
    description: [
      {
        byHand: edit("`description: mine`", (member) => {
          member.description = "mine";
        }),
        answer: "ignored",
        why: "the program does not give one, and it is kept at every change",
      },
      {
        program: "with a description",
        byHand: edit("`description: mine`", (member) => {
          member.description = "mine";
        }),
        answer: "repaired",
        why: "the program defines it",
      },
    ],
    evacuated: [
      {
        program: "evacuated",
        byHand: "lxc cluster restore bcn1",
        answer: "repaired",
        why: "the program wants it evacuated",
      },
      {
        program: "not evacuated",
        byHand: "lxc cluster evacuate bcn1",
        answer: "repaired",
        why: "the program wants it restored",
      },
    ],
    leaving: how("what becomes of the instances when the member is removed"),
    removal: how("how a member is removed whose host is dead"),
  },

  outputs: {
    server: { answer: "cannot drift", why: "all members of a cluster run the same server" },
    status: [
      { byHand: powerOff("bcn1"), cure: powerOn("bcn1"), answer: "shown", why: "`Offline`: the cluster still lists it" },
      {
        byHand: "lxc cluster evacuate bcn1",
        cure: "lxc cluster restore bcn1",
        answer: "shown",
        why: "`Evacuated`: an intended manual operation, not drift",
      },
      {
        byHand: evacuateAndPowerOff("bcn1"),
        cure: powerOnAndRestore("bcn1"),
        answer: "shown",
        why: "`Evacuated` too, while its host is switched off",
      },
    ],
    roles: {
      byHand: {
        text: "LXD reassigns the database roles",
        act: (lab) => {
          const database = databaseOf(lab);
          database.voters.push(database.member("bcn1"));
        },
      },
      answer: "shown",
      why: "LXD assigns and moves them itself",
    },
    certificateFingerprint: {
      answer: "cannot drift",
      why: "it identifies the cluster; another certificate is another cluster until the program confirms it",
    },
  },
});
