import type { SimulatedLab } from "../../../lab/simulated";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import type { Hand } from "./by-hand";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, POOL_AND_BRIDGE, powerOff, powerOn, see } from "./world";

const IMAGES: Hand = {
  words: "there are images",
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

/** What a person does to a virtual machine that takes something only while it is off. */
function whileOff(...hands: readonly string[]): readonly string[] {
  return ["lxc stop web1", ...hands, "lxc start web1"];
}

const CLOUD_CONFIG = "#cloud-config\npackages: [vim]\n";
const CONTAINER = { instanceType: "container", image: { alias: "debian-container" }, config: { "user.role": "web" } };
const RESTART = "with allowRestart";

export const vmDrift = driftTable(vmLifecycle, {
  given: {
    name: "web1",
    description: "first web server",
    image: { alias: "debian" },
    profiles: ["default", "extra"],
    cpu: 2,
    memory: "4GiB",
    rootDisk: { size: "20GiB" },
    devices: { eth1: { type: "nic", network: "lxdbr0", name: "eth1" } },
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
        instance: await see(two, "/1.0/instances/web1"),
        snapshots: await see(two, "/1.0/instances/web1/snapshots"),
        addresses: addressesIn(two.lab),
        image: await see(two, "/1.0/images/aliases/debian"),
      }),
    }),
  programs: {
    [RESTART]: { allowRestart: true },
    "of a container": CONTAINER,
    "with rootDisk.pool": { rootDisk: { size: "20GiB", pool: "default" } },
    "with running: false": { running: false },
    "without target": { target: undefined },
    "without memory and rootDisk": { memory: undefined, rootDisk: undefined },
  },

  object: {
    "the instance itself": [
      {
        byHand: "lxc delete web1 --force",
        answer: "made again",
        why: "LXD says that there is none of that name. What was on its disk is lost already",
      },
    ],
    "its member": {
      byHand: powerOff("bcn1"),
      answer: "error",
      says: /web1.*bcn1|bcn1.*web1/,
      cure: [powerOn("bcn1")],
      why: "the cluster knows that there is such an instance, and nothing of it",
    },
    "the hosts": ALL_POWER_CUT,
    "its snapshots": {
      byHand: "lxc snapshot web1 before-upgrade",
      answer: "left alone",
      why: "they are no property of this resource",
    },
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an instance that others made is taken over"),
    waitFor: how("what is waited for after a change"),
    allowRestart: how("whether it may be stopped and started for a change"),
    name: {
      byHand: ["lxc stop web1", "lxc rename web1 www1"],
      answer: "made again",
      why: "an instance is found by its name. The renamed one stays as it is, and is nobody's",
    },
    project: { answer: "cannot drift", why: "one that is moved to another project is gone from this one, and made again" },
    instanceType: { answer: "cannot drift", why: "LXD turns no container into a virtual machine, nor back" },
    image: [
      {
        byHand: "lxc image delete debian",
        answer: "left alone",
        why: "it is needed only to make the instance",
      },
      {
        byHand: ["lxc image alias delete debian", "lxc image alias create debian debian-container"],
        answer: "left alone",
        why: "an alias that has come to stand for another image is no reason to lose a machine",
      },
    ],
    description: {
      byHand: "lxc config set web1 --property description=mine",
      answer: "repaired",
      why: "it is the program's",
    },
    profiles: [
      { byHand: "lxc profile add web1 other", answer: "repaired", why: "a profile that was not given" },
      { byHand: "lxc profile remove web1 extra", answer: "repaired", why: "a profile that is missing" },
      { byHand: "lxc profile assign web1 extra,default", answer: "repaired", why: "their order: a later one wins" },
      {
        byHand: whileOff("lxc profile add web1 big"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*limits\.memory\.hugepages.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "what a profile brings or takes may need a stop",
      },
      {
        byHand: "lxc profile set extra user.extra=2",
        answer: "left alone",
        why: "what is in a profile is the matter of its LxdProfile; `expandedConfig` tells it",
      },
    ],
    cpu: [
      { byHand: "lxc config set web1 limits.cpu=4", answer: "repaired", why: "a number of CPUs is changed while it runs" },
      {
        byHand: whileOff("lxc config set web1 limits.cpu=0-1"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*limits\.cpu: 0-1 to 2; CPU pinning.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "pinning is not",
      },
      {
        program: RESTART,
        byHand: whileOff("lxc config set web1 limits.cpu=0-1"),
        answer: "repaired",
        stops: "allowRestart",
        why: "`allowRestart` lets it be stopped for that",
      },
      {
        program: "of a container",
        byHand: "lxc config set web1 limits.cpu=0-1",
        answer: "repaired",
        why: "a container takes any",
      },
    ],
    memory: [
      {
        byHand: whileOff("lxc config set web1 limits.memory=8GiB"),
        answer: "repaired",
        why: "memory that is too much is taken from a running virtual machine",
      },
      {
        byHand: "lxc config set web1 limits.memory=2GiB",
        answer: "repaired",
        why: "a running virtual machine is given back what it was started with",
      },
      {
        byHand: whileOff("lxc config set web1 limits.memory=2GiB"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*limits\.memory: 2GiB to 4GiB.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "LXD gives a running virtual machine no more memory than it was started with",
      },
      { byHand: "lxc config set web1 limits.memory=4096MiB", answer: "left alone", why: "it means the same" },
      {
        program: "without memory and rootDisk",
        byHand: whileOff("lxc config set web1 limits.memory=512MiB"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*limits\.memory: 512MiB to unset.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "what was not given is the profiles' to say",
      },
      {
        program: "of a container",
        byHand: "lxc config set web1 limits.memory=2GiB",
        answer: "repaired",
        why: "a container takes any",
      },
    ],
    rootDisk: [
      {
        byHand: whileOff("lxc config device set web1 root size=30GiB"),
        answer: "refused",
        says: /Instance "web1" on bcn1 cannot be changed so\. devices\.root\.size: 30GiB to 20GiB; the disk of a virtual machine cannot be shrunk/,
        cure: { program: { rootDisk: { size: "30GiB" } } },
        why: "LXD never shrinks the disk of a virtual machine",
      },
      {
        program: "of a container",
        byHand: "lxc config device set web1 root size=30GiB",
        answer: "repaired",
        why: "the size of a container's disk is a quota. LXD refuses one that is smaller than what is in it",
      },
      {
        program: "of a container",
        byHand: "lxc config device remove web1 root",
        answer: "repaired",
        why: "a size that was given is missing",
      },
      {
        program: "with rootDisk.pool",
        byHand: [
          "lxc stop web1",
          {
            words: "`lxc move web1 --storage other`",
            act: (lab) => {
              const root = instanceIn(lab).devices["root"];
              Object.assign(root ?? {}, { pool: "other" });
            },
          },
          "lxc start web1",
        ],
        answer: "refused",
        says: /Instance "web1" on bcn1 cannot be changed so\. devices\.root\.pool: the root disk is in pool "other".*lxc move does/,
        cure: { program: { rootDisk: { size: "20GiB", pool: "other" } } },
        why: "LXD moves a disk to another pool only by `lxc move`",
      },
      {
        program: "without memory and rootDisk",
        byHand: whileOff("lxc config device override web1 root size=30GiB"),
        answer: "refused",
        says: /Instance "web1" on bcn1|running instance "web1"/,
        cure: { program: { rootDisk: { size: "30GiB" } } },
        why: "what was not given is the profiles' to say, and it would shrink",
      },
    ],
    devices: [
      {
        byHand: "lxc config device remove web1 eth1",
        answer: "repaired",
        chosenAnew: "volatile.eth1.hwaddr",
        why: "a device that is missing is plugged in. A nic gets another MAC address, unless `hwaddr` was given",
      },
      {
        byHand: "lxc config device add web1 data disk source=/srv path=/data",
        answer: "repaired",
        why: "all devices of its own are the program's: one that it does not give is unplugged",
      },
      { byHand: "lxc config device set web1 eth1 mtu=1400", answer: "repaired", why: "another option" },
      {
        byHand: whileOff("lxc config device add web1 tpm0 tpm"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*devices\.tpm0: a tpm device cannot be removed while the instance runs.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "devices such as gpu and tpm are not plugged while a virtual machine runs",
      },
    ],
    config: [
      { byHand: "lxc config set web1 user.role=db", answer: "repaired", why: "a key that is changed while it runs" },
      { byHand: "lxc config unset web1 user.role", answer: "repaired", why: "a key that is missing" },
      {
        byHand: "lxc config set web1 user.note=x",
        answer: "repaired",
        why: "all config of its own is the program's: a key that it does not give is removed",
      },
      { byHand: "lxc config set web1 boot.autostart=1", answer: "left alone", why: "it means the same" },
      {
        byHand: whileOff("lxc config set web1 security.secureboot=true"),
        answer: "refused",
        says: /requires stopping the running instance "web1"; nothing is changed.*security\.secureboot: true to false.*allowRestart: true/,
        cure: "lxc stop web1",
        why: "a key that takes effect only when it starts",
      },
      {
        program: RESTART,
        byHand: whileOff("lxc config set web1 security.secureboot=true"),
        answer: "repaired",
        stops: "allowRestart",
        why: "`allowRestart` lets it be stopped for that",
      },
      {
        byHand: "lxc config set web1 volatile.eth1.last_state.created=false",
        answer: "left alone",
        why: "keys of volatile. are LXD's own: neither shown nor lost",
      },
      { byHand: "lxc config set web1 image.os=Plan9", answer: "left alone", why: "keys of image. are LXD's own" },
      {
        byHand: "lxc config set web1 user.pulumi.user.alice=urn:pulumi:x",
        answer: "left alone",
        why: "keys of user.pulumi. are this package's own: the marks of users inside",
      },
      {
        byHand: "lxc config unset web1 user.pulumi.urn",
        answer: "left alone",
        why: "state knows the instance by its name; the mark of its owner is written again with the next change",
      },
    ],
    cloudInit: [
      {
        byHand: 'lxc config set web1 cloud-init.user-data="#cloud-config"',
        answer: "repaired",
        why: "the guest finds it when cloud-init next runs",
      },
      { byHand: "lxc config unset web1 cloud-init.user-data", answer: "repaired", why: "a text that is missing" },
      { byHand: "lxc config set web1 cloud-init.vendor-data=x", answer: "repaired", why: "a text that was not given is removed" },
      {
        byHand: {
          words: "a newline is added at the end of `cloud-init.user-data`",
          act: (lab) => {
            instanceIn(lab).config["cloud-init.user-data"] = `${CLOUD_CONFIG}\n\n`;
          },
        },
        answer: "left alone",
        why: "it means the same",
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
        why: "`allowRestart` lets it be stopped and moved back",
      },
      {
        byHand: "lxc cluster evacuate bcn1",
        cure: "lxc cluster restore bcn1",
        answer: "left alone",
        why: "LXD moves it back when the member is restored",
      },
      {
        program: "without target",
        byHand: ["lxc stop web1", "lxc move web1 --target bcn1", "lxc move web1 --target bcn2", "lxc start web1"],
        answer: "left alone",
        why: "where it is was LXD's choice",
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
        why: "it is stopped: that is what `running: false` says",
      },
      { byHand: "lxc restart web1", answer: "left alone", why: "it runs" },
    ],
  },

  outputs: {
    status: { byHand: "lxc pause web1", answer: "repaired", shows: ["running"], why: "it follows `running`" },
    location: {
      byHand: "lxc cluster evacuate bcn1",
      cure: "lxc cluster restore bcn1",
      answer: "shown",
      why: "it is where LXD says that it is",
    },
    evacuatedFrom: {
      byHand: "lxc cluster evacuate bcn1",
      cure: "lxc cluster restore bcn1",
      answer: "shown",
      why: "it is there as long as the evacuation lasts",
    },
    ephemeral: {
      byHand: {
        words: "`lxc config edit web1`, ephemeral: true",
        act: (lab) => {
          instanceIn(lab).ephemeral = true;
        },
      },
      cure: {
        words: "`lxc config edit web1`, ephemeral: false",
        act: (lab) => {
          instanceIn(lab).ephemeral = false;
        },
      },
      answer: "shown",
      why: "as long as it is so, the instance is never stopped: LXD would delete it",
    },
    addresses: {
      byHand: {
        words: "DHCP gives another address",
        act: (lab) => {
          instanceIn(lab).leases.set("eth0", { ipv4: "10.10.11.77" });
        },
      },
      answer: "shown",
      why: "those that it has when it is looked at",
    },
    macAddresses: {
      byHand: {
        words: "`lxc config set web1 volatile.eth1.hwaddr=...`, while it is off",
        act: (lab) => {
          instanceIn(lab).config["volatile.eth1.hwaddr"] = "00:16:3e:00:00:99";
        },
      },
      answer: "shown",
      why: "those that LXD keeps. One that must not change is given as `devices.eth1.hwaddr`",
    },
    expandedConfig: {
      byHand: "lxc profile set default boot.autostart.priority=5",
      answer: "shown",
      why: "its config together with that of its profiles",
    },
    expandedDevices: {
      byHand: "lxc profile device set default eth0 mtu=1400",
      answer: "shown",
      why: "its devices together with those of its profiles",
    },
    startedAt: { byHand: "lxc restart web1", answer: "shown", why: "LXD notes each start" },
    bootMemory: {
      program: "without memory and rootDisk",
      byHand: ["lxc stop web1", "lxc profile set default limits.memory=2GiB", "lxc start web1"],
      answer: "shown",
      cure: ["lxc stop web1", "lxc profile unset default limits.memory", "lxc start web1"],
      why: "what its config and profiles said when it was last started",
    },
    runsWith: {
      byHand: "lxc profile set extra security.csm=true",
      answer: "shown",
      cure: "lxc profile unset extra security.csm",
      why: "as long as it runs without what its profiles say, which every preview tells. With `allowRestart` that is an update: it is stopped and started",
    },
    imageFingerprint: {
      byHand: {
        words: "`lxc rebuild debian-13 web1`",
        act: (lab) => {
          instanceIn(lab).config["volatile.base_image"] = "13".repeat(32);
        },
      },
      answer: "shown",
      why: "a machine that was given another image by hand is what a person wanted",
    },
  },
});
