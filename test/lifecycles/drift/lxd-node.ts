import { SimulatedLab } from "../../../lab/simulated";
import { nodeLifecycle } from "../../../provider/resources/lxd-node";
import { disconnectAll } from "../../../provider/transport/pool";
import type { ManualChange } from "./manual-changes";
import { driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, type World } from "./world";

async function start(program: string): Promise<World> {
  const there = program === "with install: false" ? { lxd: "deb" as const } : {};
  const bare = { name: "bcn2", lanAddress: "192.168.1.102", snapd: true, packages: [] };
  const lab = await SimulatedLab.start({ hosts: [{ ...bare, ...there }] });
  const host = lab.host("bcn2");
  return {
    lab,
    reach: { connection: host.connection },
    look: async () => {
      const { daemon } = host;
      return structuredClone({
        packages: host.packages,
        held: host.heldPackages,
        notes: host.files.list("/var/lib").filter((name) => name.startsWith("pulumi-lxd-")),
        snaps: host.snaps,
        kernelVersion: host.kernelVersion,
        cpus: host.cpus,
        memoryBytes: host.memoryBytes,
        answers: daemon?.answers,
        config: daemon?.localConfig,
        common: daemon?.database.config,
        cluster: daemon?.database.members.map(({ name }) => name),
        extensions: daemon?.behaviour.apiExtensions.length,
        certificate: daemon?.database.certificate?.fingerprint,
      });
    },
    stop: async () => {
      await disconnectAll();
      await lab.stop();
    },
  };
}

/** A change of the machine itself. */
function hardware(text: string, change: { cpus?: number; memoryBytes?: number; kernelVersion?: string }): ManualChange {
  return { text, act: (lab) => void Object.assign(lab.host("bcn2"), change) };
}

const NEWER_REVISION: ManualChange = {
  text: "`ssh bcn2 snap refresh lxd`, which installs a newer one",
  act: (lab) => {
    const host = lab.host("bcn2");
    host.store.release("5.21/stable", { revision: 33999, version: "5.21.4-9b1e0d2", lxd: "lxd-5.21" });
    host.installSnap("5.21/stable");
  },
};

const NEWER_PACKAGE: ManualChange = {
  text: "`ssh bcn2 apt-get --yes install lxd`, which installs a newer version",
  act: (lab) => {
    const host = lab.host("bcn2");
    host.releasePackage("5.0.2-5+deb12u7");
    host.installPackage("lxd");
  },
};

const STOPPED_UPGRADE: ManualChange = {
  text: "an upgrade with `evacuate` is interrupted",
  act: (lab) => lab.host("bcn2").files.makeSymlink("/var/lib/pulumi-lxd-upgrade", "bcn2"),
};

export const nodeDrift = driftTable(nodeLifecycle, {
  given: {
    install: { method: "deb", packages: ["btrfs-progs"] },
    config: { "core.https_address": "192.168.1.102:8443" },
  },
  start,
  programs: {
    "of the snap": { install: { method: "snap", channel: "5.21/stable" } },
    "with install: false": { install: false, config: {} },
    "of a revision of the snap": { install: { method: "snap", channel: "5.21/stable", revision: 33110 } },
    "without config": { config: {} },
    "of a version": { install: { method: "deb", version: "5.0.2-5+deb12u6" } },
  },

  object: {
    "LXD itself": [
      {
        byHand: "ssh bcn2 apt-get --yes purge lxd",
        answer: "recreated",
        why: "it is no longer installed. Its data is lost, or still on the disk, depending on the package manager's command",
      },
      {
        byHand: "ssh bcn2 systemctl stop lxd.socket lxd.service",
        answer: "error",
        says: /LXD is installed on root@.* but does not answer on its socket\. Start it, and try again\. Its log: journalctl --unit lxd/,
        cure: "ssh bcn2 systemctl start lxd.socket lxd.service",
        why: "a stopped daemon still exists; only a user should start it",
      },
    ],
    "the host": ALL_POWER_CUT,
  },

  inputs: {
    connection: how("how to reach the host"),
    timeouts: TIMEOUTS,
    resetPolicy: how("which data may be destroyed when the node is created"),
    adopt: how("whether a host in use is adopted"),
    install: [
      {
        byHand: "ssh bcn2 apt-get --yes remove btrfs-progs",
        answer: "repaired",
        why: "`packages`: a missing package of the program",
      },
      {
        program: "of the snap",
        byHand: "ssh bcn2 snap refresh lxd --channel=5.0/stable",
        answer: "repaired",
        why: "`channel`: an older one",
      },
      {
        program: "of the snap",
        byHand: "ssh bcn2 snap refresh lxd --channel=6/stable",
        answer: "refused",
        says: /has the LXD snap 6\.9-\S+ \(revision 34850\) from 6\/stable, but install\.channel is 5\.21\/stable, which is older/,
        cure: "ssh bcn2 snap refresh lxd --channel=5.21/stable",
        why: "`channel`: a newer one; LXD does not start on the data of a newer LXD",
      },
      {
        program: "of a revision of the snap",
        byHand: NEWER_REVISION,
        answer: "refused",
        says: /has the LXD snap 5\.21\.4-9b1e0d2 \(revision 33999\) from 5\.21\/stable, but install\.revision is 33110, which is older/,
        cure: {
          text: "`ssh bcn2 snap revert lxd`",
          act: (lab) => {
            lab.host("bcn2").putSnap("lxd", "5.21/stable", { revision: 33110, version: "5.21.4-8a3cf61", lxd: "lxd-5.21" });
          },
        },
        why: "`revision`: a newer one",
      },
      {
        program: "of a version",
        byHand: NEWER_PACKAGE,
        answer: "refused",
        says: /has the package lxd in version 5\.0\.2-5\+deb12u7, but install\.version is 5\.0\.2-5\+deb12u6, which is older/,
        cure: {
          text: "`ssh bcn2 apt-get --yes --allow-downgrades install lxd=5.0.2-5+deb12u6`, when the data allows it",
          act: (lab) => {
            lab.host("bcn2").installPackage("lxd", "5.0.2-5+deb12u6");
          },
        },
        why: "`version`: a newer one; the server does not start on the data of a newer version",
      },
      { program: "of the snap", byHand: "ssh bcn2 snap refresh --unhold lxd", answer: "repaired", why: "`hold`" },
      {
        program: "of a version",
        byHand: "ssh bcn2 apt-mark unhold lxd",
        answer: "repaired",
        why: "`hold`, which `version` asks for: apt would upgrade it",
      },
      {
        byHand: "ssh bcn2 apt-mark hold lxd",
        answer: "ignored",
        why: "`hold` is neither given nor asked for by `version`",
      },
      {
        program: "of the snap",
        byHand: "ssh bcn2 snap refresh lxd --leave-cohort",
        answer: "ignored",
        why: "`cohort` applies only when a revision is downloaded",
      },
      {
        byHand: ["ssh bcn2 apt-get --yes purge lxd", "ssh bcn2 snap install lxd"],
        answer: "refused",
        shows: ["config", "install"],
        says: /LXD on root@.* was installed from a snap \(.*\), but install.method is deb/,
        cure: ["ssh bcn2 snap remove lxd", "ssh bcn2 apt-get --yes install lxd"],
        why: "`method`: LXD and its data are never removed to change the packaging",
      },
      {
        program: "with install: false",
        byHand: ["ssh bcn2 apt-get --yes purge lxd", "ssh bcn2 snap install lxd"],
        answer: "ignored",
        why: "`false` accepts the existing LXD",
      },
    ],
    config: [
      {
        byHand: "lxc config set core.https_address=192.168.1.102:9443",
        answer: "repaired",
        why: "another value of a key of the program",
      },
      { byHand: "lxc config unset core.https_address", answer: "repaired", why: "a missing key of the program" },
      {
        byHand: "lxc config set core.debug_address=127.0.0.1:8444",
        answer: "ignored",
        why: "a key that the program does not set",
      },
      { byHand: "lxc config set images.auto_update_interval=0", answer: "ignored", why: "a key of the whole cluster" },
    ],
  },

  outputs: {
    server: { answer: "cannot drift", why: "a host with the other server is refused; with install: false it is another server" },
    lxdVersion: {
      program: "with install: false",
      byHand: ["ssh bcn2 apt-get --yes purge lxd", "ssh bcn2 snap install lxd"],
      answer: "shown",
      why: "the channel or archive decides the version",
    },
    apiExtensions: {
      program: "with install: false",
      byHand: ["ssh bcn2 apt-get --yes purge lxd", "ssh bcn2 snap install lxd"],
      answer: "shown",
      why: "as `lxdVersion`",
    },
    socket: {
      program: "with install: false",
      byHand: ["ssh bcn2 apt-get --yes purge lxd", "ssh bcn2 snap install lxd"],
      answer: "shown",
      why: "it shows the packaging",
    },
    kernelVersion: {
      byHand: hardware("the host boots another kernel", { kernelVersion: "6.1.0-49-amd64" }),
      answer: "shown",
      why: "it follows the host",
    },
    architecture: { answer: "cannot drift", why: "a host with another architecture is another host" },
    cpus: { byHand: hardware("the host gets more CPUs", { cpus: 8 }), answer: "shown", why: "it follows the host" },
    memoryBytes: {
      byHand: hardware("the host gets more memory", { memoryBytes: 2 ** 36 }),
      answer: "shown",
      why: "it follows the host",
    },
    packageVersion: {
      byHand: NEWER_PACKAGE,
      answer: "shown",
      why: "apt upgrades it, unless the program sets `version`",
    },
    upgradeState: {
      byHand: STOPPED_UPGRADE,
      answer: "repaired",
      shows: ["install"],
      why: "it says what comes next; an upgrade that was interrupted is finished",
    },
    recommendedAction: {
      byHand: STOPPED_UPGRADE,
      answer: "repaired",
      shows: ["install"],
      why: "as `upgradeState`",
    },
    revision: {
      program: "of the snap",
      byHand: NEWER_REVISION,
      answer: "shown",
      why: "the store decides the revision of a channel, unless the program sets one",
    },
  },
});
