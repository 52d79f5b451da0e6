import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { LxdResource } from "../../../provider/engine/resource";
import * as library from "../../../provider/index";

/** Names of all kinds of resources, as the package exports them. */
export const KINDS: readonly string[] = Object.entries(library)
  .filter(([, value]) => typeof value === "function" && value.prototype instanceof LxdResource)
  .map(([name]) => name);

const KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHN0cmFuZ2Vyc3RyYW5nZXJzdHJhbmdlcnN0cmFuZ2Vy";

const CERTIFICATE = makeCertificate("ci").pem;

/**
 * Arguments that `check` accepts, by kind; the variants of a kind together set every property, at every depth.
 * @param connection - How to reach the host that they are for.
 */
export function validArgs(connection: object): Record<string, readonly Record<string, unknown>[]> {
  const full = {
    port: 22,
    user: "admin",
    password: "hunter22",
    privateKeyPath: "~/.ssh/id_ed25519",
    privateKeyPassword: "open sesame",
    agentSocketPath: "/run/agent",
    hostKey: KEY,
    hostKeyPolicy: "known-hosts",
    dialErrorLimit: 3,
    perDialTimeout: 5,
    ...connection,
  };
  const reached = { ...full, proxy: full };
  const timeouts = { create: 60, read: 10, update: 60, delete: 60 };
  const certificateFingerprint = "0123456789abcdef".repeat(4);
  const inCluster = { cluster: { endpoints: [reached, full], certificateFingerprint }, timeouts };
  const config = { "limits.cpu": 2, "user.note": "yes", "security.nesting": true };
  const devices = {
    root: { type: "disk", path: "/", pool: "default", size: "10GiB" },
    eth0: { type: "nic", network: "lxdbr0", hwaddr: "00:16:3e:12:34:56", "ipv4.address": "10.10.10.10" },
  };
  const inInstance = { ...inCluster, instance: "web1", project: "shop" };
  const onHost = { connection: reached, timeouts };
  const user = {
    name: "alice",
    uid: 1500,
    home: "/srv/alice",
    shell: "/bin/bash",
    groups: ["adm", "sudo"],
    sudo: "password",
    authorizedKeys: [`${KEY} alice@laptop`, `no-pty,command="echo hi" ${KEY}`],
    authorizedKeysMode: "additive",
    passwordHash: `$6$salt$${"h".repeat(40)}`,
    homeOnDelete: "remove",
    adopt: true,
  };
  const logo = { path: "/etc/logo", contentBase64: "AAEC" };
  const command = {
    command: ["make", "install"],
    unless: ["test", "-e", "/usr/local/bin/app"],
    creates: "/usr/local/bin/app",
    onDelete: ["make", "uninstall"],
    environment: { PREFIX: "/usr/local" },
    stdin: "yes\n",
    triggers: [1, { version: "2" }],
  };
  const file = {
    path: "/etc/app/app.conf",
    content: "a = 1\n",
    owner: "www-data",
    group: 33,
    mode: "0640",
    onChange: ["systemctl", "reload", "app"],
    onDelete: "remove",
    adopt: true,
  };
  const service = {
    unit: "nginx",
    enabled: true,
    active: true,
    masked: false,
    triggers: ["a = 1\n", { port: 80 }, [true, null]],
  };
  const packages = {
    packages: ["jq", { name: "curl", version: "7.88.1-10", hold: true }, { name: "apache2", absent: true }],
    cacheSeconds: 600,
    removeOnDelete: true,
  };
  return {
    LxdNode: [
      {
        connection: reached,
        timeouts,
        install: { method: "deb", packages: ["btrfs-progs"], version: "5.0.2-5+deb12u6" },
        config: { "core.https_address": "192.168.1.102:8443" },
        resetPolicy: ["instances", "cluster"],
        adopt: false,
      },
      { connection: full, install: { method: "snap", channel: "5.21/stable", cohort: true, hold: false } },
    ],
    LxdClusterMember: [
      {
        connection: reached,
        timeouts,
        name: "bcn1",
        address: "192.168.1.101",
        cluster: { endpoints: [full], certificateFingerprint },
        memberConfig: { pools: { fast: { source: "/dev/sdb" } } },
        failureDomain: "rack1",
        description: "With the large disks",
        config: { "scheduler.instance": "all" },
        trustPassword: "correct horse battery",
        manualRoles: ["event-hub", "ovn-chassis"],
        evacuated: false,
        leaving: "migrate",
        removal: "force",
        adopt: true,
      },
      { connection: full, name: "bcn2", address: "192.168.1.102", peers: [reached, full], certificateFingerprint },
    ],
    LxdClusterGroup: [{ ...inCluster, name: "gpu", description: "With a GPU", members: ["bcn1", "bcn2"], adopt: true }],
    LxdServerConfig: [
      {
        ...inCluster,
        config: { "cluster.max_voters": 5, "images.auto_update_cached": false },
        memberConfig: { bcn1: { "core.debug_address": "127.0.0.1:8444" } },
        adopt: true,
      },
    ],
    LxdStoragePool: [
      {
        ...inCluster,
        name: "fast",
        driver: "zfs",
        description: "Fast disks",
        config: { "volume.size": "10GiB" },
        memberConfig: { bcn1: { source: "/dev/sdb", size: "100GiB" } },
        adopt: true,
      },
    ],
    LxdStorageVolume: [
      {
        ...inCluster,
        name: "data",
        pool: "fast",
        project: "shop",
        target: "bcn1",
        contentType: "block",
        description: "Orders",
        config: { size: "20GiB", "snapshots.schedule": "@daily", "user.note": "yes", "security.shifted": true },
        source: { pool: "slow", volume: "orders", project: "shop", member: "bcn2", snapshots: true },
        deleteData: true,
        adopt: true,
      },
    ],
    LxdNetwork: [
      {
        ...inCluster,
        name: "lxdbr0",
        type: "bridge",
        project: "shop",
        description: "Inside",
        config: { "ipv4.address": "10.10.10.1/24", "ipv4.nat": true, "ipv6.address": "none" },
        memberConfig: { bcn1: { "bridge.external_interfaces": "eth1" } },
        adopt: true,
      },
    ],
    LxdNetworkAcl: [
      {
        ...inCluster,
        name: "web",
        project: "shop",
        description: "Web servers",
        ingress: [
          {
            action: "allow",
            source: "10.0.0.0/8,10.1.0.1-10.1.0.9,@external",
            destination: "10.2.0.1",
            protocol: "tcp",
            sourcePort: "1024-65535",
            destinationPort: "80,443",
            description: "Web",
            state: "logged",
          },
        ],
        egress: [{ action: "drop", protocol: "icmp4", icmpType: 8, icmpCode: "0" }],
        config: { "user.note": "yes" },
        adopt: true,
      },
    ],
    LxdNetworkForward: [
      {
        ...inCluster,
        network: "lxdbr0",
        project: "shop",
        listenAddress: "192.168.1.200",
        target: "bcn2",
        description: "Web",
        config: { target_address: "10.10.10.9", "user.note": "yes" },
        ports: [
          { protocol: "tcp", listenPort: "80,8000-8002", targetPort: "8080", targetAddress: "10.10.10.10", description: "Web" },
          { protocol: "udp", listenPort: 53, targetAddress: "10.10.10.11" },
        ],
        adopt: true,
      },
    ],
    LxdImage: [
      {
        ...inCluster,
        project: "shop",
        metadataPath: "~/images/metadata.tar.gz",
        rootfsPath: "~/images/rootfs.squashfs",
        sourceFingerprint: "a".repeat(64),
        aliases: ["debian/12", "stable"],
        public: true,
        expiresAt: "2035-06-30T12:00:00+02:00",
        properties: { os: "Debian", release: 12 },
        adopt: true,
      },
      {
        ...inCluster,
        source: { server: "https://cloud-images.ubuntu.com/releases/", protocol: "simplestreams", alias: "24.04" },
        instanceType: "virtual-machine",
        aliases: ["ubuntu"],
        autoUpdate: true,
      },
      { ...inCluster, source: { server: "https://images.lxd.canonical.com", fingerprint: "0123456789ab" } },
    ],
    LxdProject: [{ ...inCluster, name: "shop", description: "The shop", config: { "limits.memory": "4GiB" }, adopt: true }],
    LxdTrustCertificate: [
      {
        ...{ ...inCluster, name: "ci", certificate: CERTIFICATE, type: "client", restricted: true, projects: ["shop"] },
        ...{ description: "Builds", adopt: true },
      },
    ],
    LxdProfile: [{ ...inCluster, name: "web", project: "shop", description: "Web servers", config, devices, adopt: true }],
    LxdVm: [
      {
        ...inCluster,
        name: "web1",
        project: "shop",
        description: "First",
        instanceType: "container",
        image: { alias: "24.04", server: "https://cloud-images.ubuntu.com/releases/", protocol: "simplestreams" },
        profiles: ["default", "web"],
        cpu: "0-3",
        memory: "4GiB",
        rootDisk: { size: "20GiB", pool: "fast" },
        devices: { eth0: devices.eth0 },
        config: { "boot.autostart": true },
        cloudInit: { userData: "#cloud-config\npackages: [git]\n", vendorData: "#!/bin/sh\n", networkConfig: "version: 2\n" },
        target: "bcn1",
        running: true,
        waitFor: [{ for: "running" }, { for: "ipv4", nic: "eth0" }, { for: "command", command: ["true"] }],
        allowRestart: "force",
        adopt: true,
      },
      {
        ...inCluster,
        name: "web2",
        image: { fingerprint: "0123456789ab", formerFingerprints: ["ba9876543210"] },
        cpu: 2,
        target: "@big",
        placement: { policy: "leastMemory", spreadFailureDomains: true, affinity: "db", antiAffinity: "web" },
        waitFor: [{ for: "cloud-init" }, { for: "agent" }],
      },
    ],
    HostSysctls: [{ ...onHost, name: "60-lxd", values: { "net.ipv4.ip_forward": 1, "vm.swappiness": "10" }, adopt: true }],
    VmUser: [{ ...inInstance, ...user }],
    HostUser: [{ ...onHost, ...user }],
    VmCommand: [{ ...inInstance, ...command }],
    HostCommand: [{ ...onHost, ...command }],
    VmFile: [
      { ...inInstance, ...file },
      { ...inInstance, ...logo },
    ],
    HostFile: [
      { ...onHost, ...file },
      { ...onHost, ...logo },
    ],
    VmService: [{ ...inInstance, ...service }],
    HostService: [{ ...onHost, ...service }],
    VmPackages: [{ ...inInstance, ...packages }],
    HostPackages: [{ ...onHost, ...packages }],
  };
}
