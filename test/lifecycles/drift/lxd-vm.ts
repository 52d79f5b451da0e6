import type { SimulatedLab } from "../../../lab/simulated";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import type { ManualChange } from "./manual-changes";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp, POOL_AND_BRIDGE, powerOff, powerOn } from "./world";

const IMAGES: ManualChange = {
  text: "there are images",
  act: (lab) => {
    lab.seedImage("bcn2", { alias: "debian", type: "virtual-machine" });
    lab.seedImage("bcn2", { alias: "debian-container", type: "container" });
  },
};

function instanceIn(lab: SimulatedLab) {
  const instance = lab.host("bcn2").daemon?.database.instance("default", "web1");
  if (instance === undefined) {
    throw new Error("there is no web1");
  }
  return instance;
}

function addressesIn(lab: SimulatedLab): unknown {
  const [instance] = lab.host("bcn2").daemon?.database.instances.values() ?? [];
  return instance === undefined ? undefined : Object.fromEntries(structuredClone(instance.leases));
}

/** Changes a virtual machine in a way that needs it to be off. */
function whileOff(...changes: readonly string[]): readonly string[] {
  return ["lxc stop web1", ...changes, "lxc start web1"];
}

const CLOUD_CONFIG = "#cloud-config\npackages: [vim]\n";
const CONTAINER = { instanceType: "container", image: { alias: "debian-container" }, config: { "user.role": "web" } };
const RESTART = "with allowRestart";
/** An evacuation stops other instances whose NIC is on no managed network. */
const MOVABLE = "with cluster.evacuate: migrate";

export const vmDrift = driftTable(vmLifecycle, {
  given: {
    name: "web1",
    description: "first web server",
    image: { alias: "debian" },
    profiles: ["default", "extra"],
    cpu: 2,
    memory: "4GiB",
    rootDisk: { size: "20GiB" },
    devices: { eth1: { type: "nic", nictype: "macvlan", parent: "lxdbr0", name: "eth1" } },
    config: { "user.role": "web", "boot.autostart": true, "security.secureboot": false },
    cloudInit: { userData: CLOUD_CONFIG },
    target: "bcn1",
  },
  start: () =>
    cluster({
      prepare: [
        ...POOL_AND_BRIDGE,
        IMAGES,
        "lxc storage create other dir --target bcn2",
        "lxc storage create other dir --target bcn1",
        "lxc storage create other dir",
        "lxc profile create extra",
        "lxc profile set extra user.extra=1",
        "lxc profile create other",
        "lxc profile create big",
        "lxc profile set big limits.memory.hugepages=true",
      ],
      look: async (two) => ({
        instance: await lookUp(two, "/1.0/instances/web1"),
        snapshots: await lookUp(two, "/1.0/instances/web1/snapshots"),
        addresses: addressesIn(two.lab),
        image: await lookUp(two, "/1.0/images/aliases/debian"),
      }),
    }),
  programs: {
    [RESTART]: { allowRestart: true },
    "of a container": CONTAINER,
    "with rootDisk.pool": { rootDisk: { size: "20GiB", pool: "default" } },
    "with running: false": { running: false },
    [MOVABLE]: { config: { "user.role": "web", "cluster.evacuate": "migrate" } },
    "without target": { target: undefined },
    "without memory and rootDisk": { memory: undefined, rootDisk: undefined },
  },

  object: {
    "the instance itself": [
      {
        byHand: "lxc delete web1 --force",
        answer: "recreated",
        why: "LXD has no instance with that name. The data on its disk is already lost",
      },
    ],
    "its member": {
      byHand: powerOff("bcn1"),
      answer: "error",
      says: /web1.*bcn1|bcn1.*web1/,
      cure: [powerOn("bcn1")],
      why: "the cluster lists the instance, but reports nothing of it",
    },
    "the hosts": ALL_POWER_CUT,
    "its snapshots": {
      byHand: "lxc snapshot web1 before-upgrade",
      answer: "ignored",
      why: "they are not a property of this resource",
    },
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing instance is adopted"),
    waitFor: how("what to wait for after a change"),
    allowRestart: how("whether a change may stop and start it"),
    placement: how("which member is chosen when it is created"),
    name: {
      byHand: ["lxc stop web1", "lxc rename web1 www1"],
      answer: "recreated",
      why: "an instance is found by its name. The renamed one stays unchanged and unmanaged",
    },
    project: {
      answer: "cannot drift",
      why: "an instance that is moved to another project no longer exists in this one, and is recreated",
    },
    instanceType: { answer: "cannot drift", why: "LXD cannot convert between container and virtual machine" },
    image: [
      {
        byHand: "lxc image delete debian",
        answer: "ignored",
        why: "it is needed only at the creation of the instance",
      },
      {
        byHand: ["lxc image alias delete debian", "lxc image alias create debian debian-container"],
        answer: "ignored",
        why: "an alias that points to another image does not replace an existing machine",
      },
    ],
    description: {
      byHand: "lxc config set web1 --property description=mine",
      answer: "repaired",
      why: "the program defines it",
    },
    profiles: [
      { byHand: "lxc profile add web1 other", answer: "repaired", why: "an additional profile" },
      { byHand: "lxc profile remove web1 extra", answer: "repaired", why: "a missing profile" },
      { byHand: "lxc profile assign web1 extra,default", answer: "repaired", why: "their order: a later one overrides" },
      {
        byHand: whileOff("lxc profile add web1 big"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*limits\.memory\.hugepages.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "adding or removing a profile may need a stop",
      },
      {
        byHand: "lxc profile set extra user.extra=2",
        answer: "ignored",
        why: "the LxdProfile manages the content of a profile; `expandedConfig` shows it",
      },
    ],
    cpu: [
      {
        byHand: "lxc config set web1 limits.cpu=4",
        answer: "repaired",
        why: "a number of CPUs is changed while the instance runs",
      },
      {
        byHand: whileOff("lxc config set web1 limits.cpu=0-1"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*limits\.cpu: 0-1 to 2; CPU pinning.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "pinning needs a stop",
      },
      {
        program: RESTART,
        byHand: whileOff("lxc config set web1 limits.cpu=0-1"),
        answer: "repaired",
        stops: "allowRestart",
        why: "`allowRestart` permits the restart",
      },
      {
        program: "of a container",
        byHand: "lxc config set web1 limits.cpu=0-1",
        answer: "repaired",
        why: "a container accepts any change",
      },
    ],
    memory: [
      {
        byHand: whileOff("lxc config set web1 limits.memory=8GiB"),
        answer: "repaired",
        why: "a running virtual machine gives surplus memory back",
      },
      {
        byHand: "lxc config set web1 limits.memory=2GiB",
        answer: "repaired",
        why: "a running virtual machine can grow back to its memory at the start",
      },
      {
        byHand: whileOff("lxc config set web1 limits.memory=2GiB"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*limits\.memory: 2GiB to 4GiB.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "a running virtual machine cannot get more memory than it had at the start",
      },
      { byHand: "lxc config set web1 limits.memory=4096MiB", answer: "ignored", why: "both values mean the same" },
      {
        program: "without memory and rootDisk",
        byHand: whileOff("lxc config set web1 limits.memory=512MiB"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*limits\.memory: 512MiB to unset.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "the profiles decide a value that the program does not set",
      },
      {
        program: "of a container",
        byHand: "lxc config set web1 limits.memory=2GiB",
        answer: "repaired",
        why: "a container accepts any change",
      },
    ],
    rootDisk: [
      {
        byHand: whileOff("lxc config device set web1 root size=30GiB"),
        answer: "refused",
        says: /Instance "web1" on bcn1 cannot be changed like this\. devices\.root\.size: 30GiB to 20GiB; the disk of a virtual machine cannot be shrunk/,
        cure: { program: { rootDisk: { size: "30GiB" } } },
        why: "LXD never shrinks the disk of a virtual machine",
      },
      {
        program: "of a container",
        byHand: "lxc config device set web1 root size=30GiB",
        answer: "repaired",
        why: "the size of a container's disk is a quota. LXD refuses one smaller than its content",
      },
      {
        program: "of a container",
        byHand: "lxc config device remove web1 root",
        answer: "repaired",
        why: "a missing size of the program",
      },
      {
        program: "with rootDisk.pool",
        byHand: [
          "lxc stop web1",
          {
            text: "`lxc move web1 --storage other`",
            act: (lab) => {
              const root = instanceIn(lab).devices["root"];
              Object.assign(root ?? {}, { pool: "other" });
            },
          },
          "lxc start web1",
        ],
        answer: "refused",
        says: /Instance "web1" on bcn1 cannot be changed like this\. devices\.root\.pool: the root disk is in pool "other".*lxc or incus move --storage/,
        cure: { program: { rootDisk: { size: "20GiB", pool: "other" } } },
        why: "LXD moves a disk to another pool only with `lxc move`",
      },
      {
        program: "without memory and rootDisk",
        byHand: whileOff("lxc config device override web1 root size=30GiB"),
        answer: "refused",
        says: /Instance "web1" on bcn1|running instance "web1"/,
        cure: { program: { rootDisk: { size: "30GiB" } } },
        why: "the profiles decide a value that the program does not set, and the disk would shrink",
      },
    ],
    devices: [
      {
        byHand: "lxc config device remove web1 eth1",
        answer: "repaired",
        chosenAnew: "volatile.eth1.hwaddr",
        why: "a missing device is attached. A nic gets another MAC address, unless the program sets `hwaddr`",
      },
      {
        byHand: "lxc config device add web1 data disk source=/dev/sdb",
        answer: "repaired",
        why: "the program defines all devices of the instance: one that it does not list is detached",
      },
      { byHand: "lxc config device set web1 eth1 mtu=1400", answer: "repaired", why: "another option" },
      {
        byHand: whileOff("lxc config device add web1 tpm0 tpm"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*devices\.tpm0: a tpm device cannot be removed while the instance runs.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "devices such as gpu and tpm cannot be attached while a virtual machine runs",
      },
    ],
    config: [
      { byHand: "lxc config set web1 user.role=db", answer: "repaired", why: "a key that is changed while the instance runs" },
      { byHand: "lxc config unset web1 user.role", answer: "repaired", why: "a missing key" },
      {
        byHand: "lxc config set web1 user.note=x",
        answer: "repaired",
        why: "the program defines all config of the instance: a key that it does not set is removed",
      },
      { byHand: "lxc config set web1 boot.autostart=1", answer: "ignored", why: "both values mean the same" },
      {
        byHand: whileOff("lxc config set web1 security.secureboot=true"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*security\.secureboot: true to false.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "a key that takes effect only at a start",
      },
      {
        program: RESTART,
        byHand: whileOff("lxc config set web1 security.secureboot=true"),
        answer: "repaired",
        stops: "allowRestart",
        why: "`allowRestart` permits the restart",
      },
      {
        byHand: "lxc config set web1 volatile.eth1.last_state.created=false",
        answer: "ignored",
        why: "keys below volatile. belong to LXD: neither shown nor lost",
      },
      { byHand: "lxc config set web1 image.os=Plan9", answer: "ignored", why: "keys below image. belong to LXD" },
      {
        byHand: "lxc config set web1 user.pulumi.user.alice=urn:pulumi:x",
        answer: "ignored",
        why: "keys below user.pulumi. belong to this package: the marks of users in the instance",
      },
      {
        byHand: "lxc config unset web1 user.pulumi.urn",
        answer: "ignored",
        why: "state identifies the instance by its name; the next change restores the ownership mark",
      },
    ],
    cloudInit: [
      {
        byHand: 'lxc config set web1 cloud-init.user-data="#cloud-config"',
        answer: "repaired",
        why: "the guest gets it at the next run of cloud-init",
      },
      { byHand: "lxc config unset web1 cloud-init.user-data", answer: "repaired", why: "a missing text" },
      {
        byHand: "lxc config set web1 cloud-init.vendor-data=x",
        answer: "repaired",
        why: "a text that the program does not set is removed",
      },
      {
        byHand: {
          text: "a newline is added at the end of `cloud-init.user-data`",
          act: (lab) => {
            instanceIn(lab).config["cloud-init.user-data"] = `${CLOUD_CONFIG}\n\n`;
          },
        },
        answer: "ignored",
        why: "both texts mean the same",
      },
    ],
    target: [
      {
        byHand: ["lxc stop web1", "lxc move web1 --target bcn2", "lxc start web1"],
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*target: bcn2 to bcn1; a running instance is not moved.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "a move needs a stop",
      },
      {
        program: RESTART,
        byHand: ["lxc stop web1", "lxc move web1 --target bcn2", "lxc start web1"],
        answer: "repaired",
        stops: "allowRestart",
        why: "`allowRestart` permits the stop and the move back",
      },
      {
        program: MOVABLE,
        byHand: "lxc cluster evacuate bcn1",
        cure: "lxc cluster restore bcn1",
        answer: "ignored",
        why: "LXD moves it back when the member is restored",
      },
      {
        program: "without target",
        byHand: ["lxc stop web1", "lxc move web1 --target bcn1", "lxc move web1 --target bcn2", "lxc start web1"],
        answer: "ignored",
        why: "LXD chose the member",
      },
    ],
    running: [
      { byHand: "lxc stop web1", answer: "repaired", why: "it is started" },
      { byHand: "lxc pause web1", answer: "repaired", why: "it is thawed" },
      {
        program: "with running: false",
        byHand: "lxc start web1",
        answer: "repaired",
        stops: "the program asks for it",
        why: "it is stopped, because the program says `running: false`",
      },
      { byHand: "lxc restart web1", answer: "ignored", why: "it runs" },
      {
        byHand: "lxc cluster evacuate bcn1",
        cure: "lxc cluster restore bcn1",
        answer: "ignored",
        why: "a device that no other member has keeps it on its member, stopped. LXD starts it when the member is restored",
      },
    ],
  },

  outputs: {
    status: { byHand: "lxc pause web1", answer: "repaired", shows: ["running"], why: "it follows `running`" },
    location: {
      program: MOVABLE,
      byHand: "lxc cluster evacuate bcn1",
      cure: "lxc cluster restore bcn1",
      answer: "shown",
      why: "it shows the member in LXD",
    },
    evacuatedFrom: {
      program: MOVABLE,
      byHand: "lxc cluster evacuate bcn1",
      cure: "lxc cluster restore bcn1",
      answer: "shown",
      why: "it is true as long as the evacuation lasts",
    },
    ephemeral: {
      byHand: {
        text: "`lxc config edit web1`, ephemeral: true",
        act: (lab) => {
          instanceIn(lab).ephemeral = true;
        },
      },
      cure: {
        text: "`lxc config edit web1`, ephemeral: false",
        act: (lab) => {
          instanceIn(lab).ephemeral = false;
        },
      },
      answer: "shown",
      why: "while it is true, the instance is never stopped, because LXD would delete it",
    },
    addresses: {
      byHand: {
        text: "DHCP gives another address",
        act: (lab) => {
          instanceIn(lab).leases.set("eth0", { ipv4: "10.10.11.77" });
        },
      },
      answer: "shown",
      why: "the addresses at the time of the read",
    },
    macAddresses: {
      byHand: {
        text: "`lxc config set web1 volatile.eth1.hwaddr=...`, while it is off",
        act: (lab) => {
          instanceIn(lab).config["volatile.eth1.hwaddr"] = "00:16:3e:00:00:99";
        },
      },
      answer: "shown",
      why: "the addresses that LXD stores. For a fixed one set `devices.eth1.hwaddr`",
    },
    expandedConfig: {
      byHand: "lxc profile set default boot.autostart.priority=5",
      answer: "shown",
      why: "its config merged with that of its profiles",
    },
    expandedDevices: {
      byHand: "lxc profile device set default eth0 mtu=1400",
      answer: "shown",
      why: "its devices merged with those of its profiles",
    },
    startedAt: { byHand: "lxc restart web1", answer: "shown", why: "LXD records each start" },
    bootMemory: {
      program: "without memory and rootDisk",
      byHand: ["lxc stop web1", "lxc profile set default limits.memory=2GiB", "lxc start web1"],
      answer: "shown",
      cure: ["lxc stop web1", "lxc profile unset default limits.memory", "lxc start web1"],
      why: "the values of its config and profiles at its last start",
    },
    runsWith: {
      byHand: "lxc profile set extra security.csm=true",
      answer: "shown",
      cure: "lxc profile unset extra security.csm",
      why: "true while it runs without a change of its profiles; every preview shows it. With `allowRestart` it is an update: the instance is restarted",
    },
    imageFingerprint: {
      byHand: {
        text: "`lxc rebuild debian-13 web1`",
        act: (lab) => {
          instanceIn(lab).config["volatile.base_image"] = "13".repeat(32);
        },
      },
      answer: "shown",
      why: "an instance that was rebuilt manually is kept",
    },
  },
});
