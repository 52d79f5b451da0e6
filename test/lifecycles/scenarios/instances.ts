/** Scenarios of instances and of the users in them. */
import type { SimulatedLab } from "../../../lab/simulated";
import type { Flavour } from "../../../lab/simulated/lxd/flavours";
import type { MemoryFiles } from "../../../lab/simulated/memory-files";
import { hostSysctlsLifecycle } from "../../../provider/resources/host-sysctls";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { hostCommandLifecycle, vmCommandLifecycle } from "../../../provider/resources/machine-command";
import { hostFileLifecycle, vmFileLifecycle } from "../../../provider/resources/machine-file";
import { hostPackagesLifecycle, vmPackagesLifecycle } from "../../../provider/resources/machine-packages";
import { hostServiceLifecycle, vmServiceLifecycle } from "../../../provider/resources/machine-service";
import { hostUserLifecycle, vmUserLifecycle } from "../../../provider/resources/machine-user";
import { Managed } from "../../unit/resources/simulated-cluster";
import { clusterOf, startFurnishedCluster, startFurnishedServer } from "../worlds";
import type { Scenario } from "./scenario";

const vm = { kind: "LxdVm", manage: () => new Managed(vmLifecycle as never, "web1") };
const user = {
  kind: "VmUser",
  manage: () => new Managed(vmUserLifecycle as never, "alice"),
};

const hostUser = { kind: "HostUser", manage: () => new Managed(hostUserLifecycle as never, "alice") };
const command = { kind: "VmCommand", manage: () => new Managed(vmCommandLifecycle as never, "it") };
const hostCommand = { kind: "HostCommand", manage: () => new Managed(hostCommandLifecycle as never, "it") };
const file = { kind: "VmFile", manage: () => new Managed(vmFileLifecycle as never, "conf") };
const hostFile = { kind: "HostFile", manage: () => new Managed(hostFileLifecycle as never, "conf") };
const service = { kind: "VmService", manage: () => new Managed(vmServiceLifecycle as never, "cron") };
const hostService = { kind: "HostService", manage: () => new Managed(hostServiceLifecycle as never, "cron") };

const packages = { kind: "VmPackages", manage: () => new Managed(vmPackagesLifecycle as never, "tools") };
const hostPackages = { kind: "HostPackages", manage: () => new Managed(hostPackagesLifecycle as never, "tools") };

const HASH = `$6$salt$${"h".repeat(40)}`;
const KEY = publicKey("laptop");
const OTHER_KEY = publicKey("desktop");

const LEFT = { leaves: "the service, as it is", deletesNothing: true } as const;
const OFF = { enabled: false, active: false, masked: true };
const ON = { enabled: true, active: true, masked: false };

/** See above. */
export const INSTANCE_SCENARIOS: readonly Scenario[] = [
  {
    ...vm,
    title: "that is changed while it runs",
    start: withImages(startFurnishedCluster),
    first: (lab) => machine(lab, { cpu: 1, waitFor: [{ for: "agent" }, { for: "ipv4", nic: "eth0" }, { for: "cloud-init" }] }),
    then: (lab) => machine(lab, { cpu: 2, description: "changed", config: { "user.role": "web" } }),
  },
  {
    ...vm,
    title: "that is restarted for a change",
    start: withImages(startFurnishedCluster),
    first: (lab) => machine(lab, { memory: "1GiB" }),
    then: (lab) => machine(lab, { memory: "2GiB", allowRestart: true, waitFor: [{ for: "ipv4", nic: "eth0" }] }),
  },
  {
    ...vm,
    title: "that is moved",
    start: withImages(startFurnishedCluster),
    first: (lab) => container(lab, { target: "bcn1" }),
    then: (lab) => container(lab, { target: "bcn2", allowRestart: true }),
  },
  {
    ...vm,
    title: "that is placed",
    start: withImages(startFurnishedCluster),
    first: (lab) => container(lab, { placement: { antiAffinity: "web" }, config: { "user.placement": "web" } }),
  },
  {
    ...vm,
    title: "that is stopped",
    start: withImages(startFurnishedServer),
    first: (lab) => container(lab, { rootDisk: { size: "20GiB" }, cloudInit: { userData: "#cloud-config\n{}" } }),
    then: (lab) => container(lab, { running: false }),
  },
  {
    ...vm,
    title: "that was stopped and changed manually",
    start: withImages(startFurnishedServer),
    first: (lab) => container(lab, { config: { "user.role": "web" } }),
    meanwhile: async (lab) => {
      await lab.byHand("bcn2", "PUT", "/1.0/instances/web1/state", { action: "stop", timeout: 30 });
      await lab.byHand("bcn2", "PATCH", "/1.0/instances/web1", { config: { "user.role": "db" } });
    },
    then: (lab) => container(lab, { config: { "user.role": "web" } }),
  },
  {
    ...user,
    title: "in a container of a cluster",
    start: withInstance(startFurnishedCluster, "container"),
    first: (lab) =>
      alice(lab, { groups: ["adm"], sudo: "passwordless", authorizedKeys: [KEY], passwordHash: HASH, homeOnDelete: "remove" }),
    then: (lab) =>
      alice(lab, {
        groups: ["staff"],
        sudo: "password",
        shell: "/bin/sh",
        authorizedKeys: [OTHER_KEY],
        passwordHash: `${HASH}2`,
        homeOnDelete: "remove",
      }),
  },
  {
    ...user,
    title: "in a virtual machine that moves",
    start: withInstance(startFurnishedServer, "virtual-machine"),
    leaves: "the home, which homeOnDelete keeps by default",
    first: (lab) => alice(lab, { uid: 2000, authorizedKeys: [KEY], authorizedKeysMode: "additive" }),
    then: (lab) =>
      alice(lab, {
        uid: 2001,
        home: "/srv/alice",
        authorizedKeys: [KEY, OTHER_KEY],
        authorizedKeysMode: "additive",
        sudo: "password",
      }),
  },
  {
    ...hostUser,
    title: "that moves",
    start: startFurnishedServer,
    first: (lab) => aliceOn(lab, { uid: 2000, authorizedKeys: [KEY], sudo: "passwordless", homeOnDelete: "remove" }),
    then: (lab) =>
      aliceOn(lab, {
        ...{ uid: 2001, home: "/srv/alice", passwordHash: HASH, groups: ["adm"] },
        ...{ authorizedKeys: [KEY, OTHER_KEY], sudo: "password", homeOnDelete: "remove" },
      }),
  },
  {
    ...file,
    title: "with a command that follows",
    start: withInstance(startFurnishedCluster, "container"),
    leaves: "what the command made",
    first: (lab) => conf(inWeb1(lab), { onChange: ["touch", "/run/reloaded"] }),
    then: (lab) => conf(inWeb1(lab), { content: "a = 2\n", mode: "0600", owner: "daemon", onChange: ["touch", "/run/reloaded"] }),
  },
  {
    ...file,
    title: "that is adopted",
    start: async (flavour) => {
      const lab = await withInstance(startFurnishedServer, "virtual-machine")(flavour);
      lab.guestFiles("bcn2", "web1").makeDirectory("/srv/app", { parents: true });
      lab.guestFiles("bcn2", "web1").writeFile("/srv/app/app.conf", "theirs\n", { mode: 0o640, uid: 1 });
      return lab;
    },
    first: (lab) => conf(inWeb1(lab), { adopt: true }),
    then: (lab) => conf(inWeb1(lab), { adopt: true, content: "a = 2\n" }),
  },
  {
    ...hostFile,
    title: "with a command that follows",
    start: startFurnishedServer,
    leaves: "what the command made",
    first: (lab) => conf(onBcn2(lab), { onChange: ["touch", "/run/reloaded"] }),
    then: (lab) => conf(onBcn2(lab), { content: "a = 2\n", mode: "0600", owner: "daemon", onChange: ["touch", "/run/reloaded"] }),
  },
  {
    ...command,
    title: "that makes a file",
    start: withInstance(startFurnishedCluster, "container"),
    first: (lab) => touching(inWeb1(lab), {}),
    then: (lab) => touching(inWeb1(lab), { triggers: [1], environment: { A: "1" }, stdin: "x" }),
  },
  {
    ...hostCommand,
    title: "that makes a file",
    start: startFurnishedServer,
    first: (lab) => touching(onBcn2(lab), {}),
    then: (lab) => touching(onBcn2(lab), { triggers: [1], environment: { A: "1" }, stdin: "x" }),
  },
  {
    kind: "HostSysctls",
    title: "of which one is dropped",
    manage: () => new Managed(hostSysctlsLifecycle as never, "lxd"),
    start: startFurnishedServer,
    first: (lab) => ({ ...onBcn2(lab), name: "60-lxd", values: { "net.ipv4.ip_forward": 1, "vm.swappiness": 10 } }),
    then: (lab) => ({
      ...onBcn2(lab),
      name: "60-lxd",
      values: { "net.ipv4.ip_forward": true, "fs.inotify.max_user_instances": 1024 },
    }),
  },
  {
    ...service,
    ...LEFT,
    title: "that is restarted for its triggers",
    start: withInstance(startFurnishedCluster, "container"),
    first: (lab) => cron(inWeb1(lab), { active: true, triggers: [1] }),
    meanwhile: configure((lab) => lab.guestFiles("bcn2", "web1")),
    then: (lab) => cron(inWeb1(lab), { active: true, triggers: [2] }),
  },
  {
    ...service,
    ...LEFT,
    title: "that is masked in a virtual machine, and then runs",
    start: withInstance(startFurnishedServer, "virtual-machine"),
    first: (lab) => cron(inWeb1(lab), OFF),
    then: (lab) => cron(inWeb1(lab), ON),
  },
  {
    ...hostService,
    ...LEFT,
    title: "that is restarted for its triggers",
    start: startFurnishedServer,
    first: (lab) => cron(onBcn2(lab), { active: true, triggers: [1] }),
    meanwhile: configure((lab) => lab.host("bcn2").files),
    then: (lab) => cron(onBcn2(lab), { active: true, triggers: [2] }),
  },
  {
    ...hostService,
    ...LEFT,
    title: "that is masked, and then runs",
    start: startFurnishedServer,
    first: (lab) => cron(onBcn2(lab), OFF),
    then: (lab) => cron(onBcn2(lab), ON),
  },
  {
    ...packages,
    title: "with a hold",
    start: withInstance(startFurnishedCluster, "container"),
    first: (lab) => tools(inWeb1(lab), ["jq", { name: "curl", hold: true }]),
    then: (lab) => tools(inWeb1(lab), [{ name: "jq", hold: true }, { name: "libjq1" }, { name: "curl", absent: true }]),
  },
  {
    ...hostPackages,
    title: "with a version",
    start: startFurnishedServer,
    first: (lab) => tools(onBcn2(lab), ["jq", { name: "curl", version: "7.88.1-10+deb12u14" }]),
    then: (lab) => tools(onBcn2(lab), ["jq", { name: "curl", hold: true }, { name: "libjq1" }]),
  },
];

function tools(where: object, list: readonly unknown[]): object {
  return { ...where, packages: list, cacheSeconds: 0, removeOnDelete: true };
}

function touching(where: object, more: object): object {
  return { ...where, command: ["touch", "/srv/made"], onDelete: ["rm", "-f", "/srv/made"], ...more };
}

function cron(where: object, more: object): object {
  return { ...where, unit: "cron", ...more };
}

/** A change of a file that the service reads at its start: what it was started with shows whether it was restarted. */
function configure(filesOf: (lab: SimulatedLab) => MemoryFiles): (lab: SimulatedLab) => Promise<void> {
  return (lab) => {
    filesOf(lab).writeFile("/etc/default/cron", "OPTIONS=2");
    return Promise.resolve();
  };
}

function inWeb1(lab: SimulatedLab): object {
  return { cluster: clusterOf(lab), instance: "web1" };
}

function onBcn2(lab: SimulatedLab): object {
  return { connection: lab.host("bcn2").connection };
}

function aliceOn(lab: SimulatedLab, more: object): object {
  return { ...onBcn2(lab), name: "alice", ...more };
}

function conf(where: object, more: object): object {
  return { ...where, path: "/srv/app/app.conf", content: "a = 1\n", ...more };
}

function publicKey(comment: string): string {
  const field = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([0, 0, 0, bytes.length]), bytes]);
  const blob = Buffer.concat([field(Buffer.from("ssh-ed25519")), field(Buffer.alloc(32, comment))]);
  return `ssh-ed25519 ${blob.toString("base64")} ${comment}`;
}

function machine(lab: SimulatedLab, more: object): object {
  return { cluster: clusterOf(lab), name: "web1", image: { alias: "vm-image" }, target: "bcn1", ...more };
}

function container(lab: SimulatedLab, more: object): object {
  return { cluster: clusterOf(lab), name: "web1", instanceType: "container", image: { alias: "container-image" }, ...more };
}

function alice(lab: SimulatedLab, more: object): object {
  return { cluster: clusterOf(lab), instance: "web1", name: "alice", ...more };
}

function withImages(start: Scenario["start"]): Scenario["start"] {
  return async (flavour) => {
    const lab = await start(flavour);
    lab.seedImage("bcn2", { alias: "vm-image", type: "virtual-machine" });
    lab.seedImage("bcn2", { alias: "container-image" });
    return lab;
  };
}

function withInstance(start: Scenario["start"], type: "container" | "virtual-machine"): Scenario["start"] {
  return async (flavour: Flavour) => {
    const lab = await start(flavour);
    lab.seedInstances(1, { host: "bcn2", prefix: "web", type });
    lab.guestFiles("bcn2", "web1").makeDirectory("/srv", { parents: true });
    return lab;
  };
}
