/** Two hosts, three containers over both, and what is inside of all of them. What the test changes comes from the config. */
import * as pulumi from "@pulumi/pulumi";
import {
  type ConnectionArgs,
  HostCommand,
  HostFile,
  HostPackages,
  HostService,
  HostSysctls,
  HostUser,
  type LxdNodeArgs,
  VmCommand,
  VmFile,
  VmPackages,
  VmService,
} from "pulumi-lxd-cluster";
import { LxdCluster, VmGroup } from "pulumi-lxd-cluster/components";

interface Host {
  name: string;
  address: string;
  connection: ConnectionArgs;
}

const config = new pulumi.Config();
const hosts = config.requireObject<Host[]>("hosts");
const install = config.requireObject<NonNullable<LxdNodeArgs["install"]>>("install");
const image = config.requireObject<{ metadataPath: string; rootfsPath: string }>("image");
const { version, packages, extra } = config.requireObject<{ version: string; packages: string[]; extra: boolean }>("program");
const [key = "", otherKey = ""] = config.requireObject<string[]>("keys");

/** A service that everything below belongs to. It is a unit of its own, so that no package starts it. */
const UNIT = `[Service]
EnvironmentFile=/etc/clockwork/settings
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
`;

/** What is on each machine, by its prefix. The kinds of a pair take the same arguments. */
const settings = { path: "/etc/clockwork/settings", content: `VERSION=${version}\n`, mode: "0640", group: "adm" };
const unit = { path: "/etc/systemd/system/clockwork.service", content: UNIT, onChange: ["systemctl", "daemon-reload"] };
const service = { unit: "clockwork", enabled: true, active: true };

const cluster = new LxdCluster("cluster", {
  hosts: hosts.map((host) => ({ ...host, node: { install } })),
  pools: { default: { driver: "dir" } },
  images: { debian: image },
});

const web = new VmGroup("web", {
  cluster,
  defaults: {
    instanceType: "container",
    image: { alias: "debian" },
    rootDisk: { pool: "default" },
    devices: { eth0: { type: "nic", nictype: "bridged", parent: "br0", name: "eth0" } },
    waitFor: [{ for: "cloud-init" }, { for: "ipv4", nic: "eth0" }],
    users: [
      { name: "ops", groups: ["adm"], sudo: "passwordless", authorizedKeys: [key], ...(extra && { shell: "/bin/sh" }) },
      { name: "dev", authorizedKeys: [otherKey] },
    ],
  },
  vms: [
    { name: "web1", target: "bcn2", network: { eth0: { addresses: ["192.168.1.201/24"] } } },
    { name: "web2", target: "bcn1", network: { eth0: { addresses: ["192.168.1.202/24"] } } },
    { name: "web3", target: "bcn1", network: { eth0: { addresses: ["192.168.1.203/24"] } } },
  ],
});

for (const [name, vm] of Object.entries(web.vms)) {
  const where = { cluster, instance: vm.name };
  const opts = { deletedWith: vm };
  new VmPackages(`${name}-tools`, { ...where, packages }, opts);
  const own = new VmFile(`${name}-settings`, { ...where, ...settings }, opts);
  const unitFile = new VmFile(`${name}-unit`, { ...where, ...unit }, opts);
  new VmService(`${name}-clockwork`, { ...where, ...service, triggers: [own.content] }, { ...opts, dependsOn: [own, unitFile] });
  new VmCommand(
    `${name}-stamp`,
    { ...where, command: ["cp", "/etc/clockwork/settings", "/srv/stamp"], triggers: [own.content] },
    opts,
  );
}

const [first] = hosts;
if (first !== undefined) {
  const where = { connection: first.connection };
  const opts = { dependsOn: [cluster] }; // apt works for the cluster's hosts first
  new HostUser(
    "host-ops",
    { ...where, name: "ops", groups: ["adm"], authorizedKeys: [key], ...(extra && { shell: "/bin/sh" }) },
    opts,
  );
  new HostPackages("host-tools", { ...where, packages }, opts);
  const own = new HostFile("host-settings", { ...where, ...settings }, opts);
  const unitFile = new HostFile("host-unit", { ...where, ...unit }, opts);
  new HostService("host-clockwork", { ...where, ...service, triggers: [own.content] }, { dependsOn: [own, unitFile] });
  new HostCommand(
    "host-stamp",
    { ...where, command: ["cp", "/etc/clockwork/settings", "/srv/stamp"], triggers: [own.content] },
    { dependsOn: [own] },
  );
  new HostSysctls(
    "host-network",
    { ...where, name: "60-clockwork", values: { "net.ipv4.tcp_rmem": "4096 131072 7000000" } },
    opts,
  );
}

export const addresses = web.addresses;
