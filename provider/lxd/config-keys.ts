/**
 * Finds misspelt keys of LXD's config and devices. LXD refuses a key that it does not have, but only when it is asked to apply it.
 *
 * The list is from LXD's reference of options (https://documentation.ubuntu.com/lxd/latest/reference/, versions 5.0 to 6), and need not be
 * complete: a server with the extension `metadata_configuration` is asked about a key that is not in it, and without such a server only what
 * looks like one of these keys is a mistake.
 */
import * as z from "zod";
import type { LxdClient } from "./client/client";
import { getServerShared } from "./server";

/** What has a config, and devices of an instance. */
export type ConfigOwner = "instance" | "device" | "pool" | "network" | "project" | "member";

/** Keys by owner. `*` stands for any text; `ipv*` and `ingress|egress` are written out below. */
const KEYS: Readonly<Record<ConfigOwner, string>> = {
  instance: `
    agent.nic_config boot.autorestart boot.autostart boot.autostart.delay boot.autostart.priority boot.debug_edk2
    boot.host_shutdown_action boot.host_shutdown_timeout boot.mode boot.stop.priority cloud-init.network-config
    cloud-init.ssh-keys.* cloud-init.user-data cloud-init.vendor-data cluster.evacuate environment.* image.* limits.cpu
    limits.cpu.allowance limits.cpu.nodes limits.cpu.pin_strategy limits.cpu.priority limits.disk.priority
    limits.hugepages.* limits.kernel.* limits.memory limits.memory.enforce limits.memory.hugepages limits.memory.swap
    limits.memory.swap.priority limits.network.priority limits.processes linux.kernel_modules linux.kernel_modules.load
    linux.sysctl.* migration.incremental.memory migration.incremental.memory.goal
    migration.incremental.memory.iterations migration.stateful nvidia.driver.capabilities nvidia.require.cuda
    nvidia.require.driver nvidia.runtime placement.* raw.apparmor raw.idmap raw.lxc raw.qemu raw.qemu.conf raw.seccomp
    security.agent.metrics security.csm security.delegate_bpf security.delegate_bpf.* security.devlxd
    security.devlxd.images security.devlxd.management.volumes security.guestapi security.idmap.base
    security.idmap.isolated security.idmap.size security.nesting security.privileged security.protection.delete
    security.protection.shift security.protection.start security.secureboot security.sev security.sev.*
    security.syscalls.allow security.syscalls.deny security.syscalls.deny_compat security.syscalls.deny_default
    security.syscalls.intercept.* snapshots.expiry snapshots.pattern snapshots.schedule snapshots.schedule.stopped
    ubuntu_pro.guest_attach user.* volatile.*`,
  device: `
    acceleration address bind boot.priority busnum ceph.cluster_name ceph.user_name connect devnum gid gputype gvrp
    host_name hwaddr id initial.* io.bus io.cache io.threads ipv*.address ipv*.gateway ipv*.host_address ipv*.host_table
    ipv*.host_tables ipv*.neighbor_probe ipv*.routes ipv*.routes.anycast ipv*.routes.external limits.egress
    limits.ingress limits.max limits.priority limits.read limits.write listen maas.subnet.ipv* major mdev mig.ci mig.gi
    mig.uuid minor mode mtu name nat nested network nictype ownership.inherit parent path pathrm pci pool productid
    propagation proxy_protocol queue.tx.length raw.mount.options readonly recursive required security.acls
    security.acls.default.* security.gid security.ipv4_filtering security.ipv6_filtering security.mac_filtering
    security.port_isolation security.promiscuous security.trusted security.uid serial shift size size.state source
    source.snapshot source.type subsystem type uid user.* vendorid vlan vlan.tagged`,
  pool: `
    btrfs.mount_options ceph.cluster_name ceph.osd.data_pool_name ceph.osd.force_reuse ceph.osd.pg_num
    ceph.osd.pool_name ceph.osd.pool_size ceph.rbd.clone_copy ceph.rbd.du ceph.rbd.features ceph.user.name cephfs.*
    cephobject.* lvm.thinpool_metadata_size lvm.thinpool_name lvm.use_thinpool lvm.vg.force_reuse lvm.vg_name
    powerflex.* pure.* rsync.bwlimit rsync.compression size source source.recover source.wipe user.* volatile.* volume.*
    zfs.clone_copy zfs.export zfs.pool_name`,
  network: `
    bgp.ipv*.nexthop bgp.peers.* bridge.driver bridge.external_interfaces bridge.hwaddr bridge.mode bridge.mtu
    dns.domain dns.mode dns.nameservers dns.search dns.zone.forward dns.zone.reverse.ipv* fan.overlay_subnet fan.type
    fan.underlay_subnet gvrp ipv*.address ipv*.dhcp ipv*.dhcp.expiry ipv*.dhcp.gateway ipv*.dhcp.ranges
    ipv*.dhcp.stateful ipv*.firewall ipv*.gateway ipv*.l3only ipv*.nat ipv*.nat.address ipv*.nat.order ipv*.ovn.ranges
    ipv*.routes ipv*.routes.anycast ipv*.routing maas.subnet.ipv* mtu network ovn.ingress_mode parent raw.dnsmasq
    security.acls security.acls.default.* tunnel.* user.* vlan volatile.*`,
  project: `
    backups.compression_algorithm features.images features.networks features.networks.zones features.profiles
    features.storage.buckets features.storage.volumes images.auto_update_cached images.auto_update_interval
    images.compression_algorithm images.default_architecture images.remote_cache_expiry limits.containers limits.cpu
    limits.disk limits.disk.pool.* limits.instances limits.memory limits.networks limits.networks.uplink_ips.*
    limits.processes limits.virtual-machines restricted restricted.backups restricted.cluster.groups
    restricted.cluster.target restricted.containers.interception restricted.containers.lowlevel
    restricted.containers.nesting restricted.containers.privilege restricted.devices.disk restricted.devices.disk.paths
    restricted.devices.gpu restricted.devices.infiniband restricted.devices.nic restricted.devices.pci
    restricted.devices.proxy restricted.devices.unix-block restricted.devices.unix-char restricted.devices.unix-hotplug
    restricted.devices.usb restricted.idmap.gid restricted.idmap.uid restricted.networks.access
    restricted.networks.subnets restricted.networks.uplinks restricted.networks.zones restricted.snapshots
    restricted.virtual-machines.lowlevel user.*`,
  member: "scheduler.instance user.*",
};

/** The groups of LXD's metadata that tell of an owner. */
const GROUPS: Readonly<Record<ConfigOwner, RegExp>> = {
  instance: /^instance$/,
  device: /^device-/,
  pool: /^storage-/,
  network: /^network-/,
  project: /^project$/,
  member: /^cluster$/,
};

const groupSchema = z.looseObject({ keys: z.array(z.record(z.string(), z.unknown())).default([]) });
const metadataSchema = z.looseObject({ configs: z.record(z.string(), z.record(z.string(), groupSchema)) });

/** The keys of an owner, for the simulator. */
export function knownKeys(owner: ConfigOwner): string[] {
  return KEYS[owner]
    .trim()
    .split(/\s+/)
    .flatMap((key) => (key.includes("ipv*") ? [key.replace("ipv*", "ipv4"), key.replace("ipv*", "ipv6")] : [key]));
}

/** Whether the list has a key. */
export function isKnownKey(owner: ConfigOwner, key: string): boolean {
  return matches(knownKeys(owner), key);
}

/**
 * Tells which keys a server has, by its own metadata. Answers `undefined` for an owner that the metadata does not tell of, and for all of
 * them where the server has no metadata.
 */
export async function serversKeys(lxd: LxdClient): Promise<(owner: ConfigOwner) => string[] | undefined> {
  const { api_extensions: extensions } = await getServerShared(lxd);
  if (!extensions.includes("metadata_configuration")) {
    return () => undefined;
  }
  const { configs } = await lxd.getShared("/1.0/metadata/configuration", metadataSchema);
  return (owner) => {
    const groups = Object.entries(configs).filter(([name]) => GROUPS[owner].test(name));
    const keys = groups.flatMap(([, group]) =>
      Object.values(group).flatMap((part) => part.keys.flatMap((key) => Object.keys(key))),
    );
    return keys.length === 0 ? undefined : keys;
  };
}

/** Whether one of the keys is meant; `*`, and a part in capitals such as `bgp.peers.NAME.asn`, stand for any text. */
export function matches(keys: readonly string[], key: string): boolean {
  return keys.some((known) => known === key || pattern(known)?.test(key) === true);
}

function pattern(known: string): RegExp | undefined {
  if (!/\*|(^|\.)[A-Z_]+(\.|$)/.test(known)) {
    return undefined;
  }
  const parts = known.split(".").map((part) => (part === "*" || /^[A-Z_]+$/.test(part) ? ".+" : part.replaceAll("*", ".*")));
  return new RegExp(`^${parts.join("\\.")}$`);
}
