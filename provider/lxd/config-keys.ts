/**
 * Finds misspelt keys of LXD's config and devices. LXD refuses an unknown key only when it applies the key.
 *
 * The list has the keys of doc/metadata.txt of canonical/lxd at 01c3b1c (between 6.9 and 6.10), keys that were removed before (from
 * doc/config_options.txt at 006ae86, doc/instances.md at 010b312, lxd/device/nic.go at 0193c56, shared/instance.go and the drivers), and
 * some of Incus's own keys of devices, networks and pools (from doc/config_options.txt of presztak/incus, a fork, at 05bee72).
 *
 * The list may be incomplete. A server with the extension `metadata_configuration` answers for a key that the list lacks. Where the server
 * does not tell, only a key that resembles a listed one counts as a mistake, and is none of {@link INCUS_KEYS}.
 */
import * as z from "zod";
import { listOf } from "./client/answers";
import type { LxdClient } from "./client/client";
import { getServerShared } from "./server";

export type ConfigOwner = "instance" | "device" | "pool" | "volume" | "network" | "project" | "member" | "server";

/** Keys by owner. `*` stands for any text. */
export const KNOWN_KEYS: Readonly<Record<ConfigOwner, readonly string[]>> = {
  instance: listed(`
    agent.nic_config boot.autorestart boot.autostart boot.autostart.delay boot.autostart.priority boot.debug_edk2
    boot.host_shutdown_action boot.host_shutdown_timeout boot.mode boot.stop.priority cloud-init.network-config
    cloud-init.ssh-keys.* cloud-init.user-data cloud-init.vendor-data cluster.evacuate environment.* image.* limits.cpu
    limits.cpu.allowance limits.cpu.nodes limits.cpu.pin_strategy limits.cpu.priority limits.disk.priority limits.hugepages.1GB
    limits.hugepages.1MB limits.hugepages.2MB limits.hugepages.64KB limits.kernel.* limits.max_bus_ports limits.memory
    limits.memory.enforce limits.memory.hugepages limits.memory.swap limits.memory.swap.priority limits.network.priority
    limits.processes linux.kernel_modules linux.kernel_modules.load linux.sysctl.* migration.incremental.memory
    migration.incremental.memory.goal migration.incremental.memory.iterations migration.stateful nvidia.driver.capabilities
    nvidia.require.cuda nvidia.require.driver nvidia.runtime placement.group raw.apparmor raw.idmap raw.lxc raw.qemu raw.qemu.conf
    raw.seccomp security.agent.metrics security.csm security.delegate_bpf security.delegate_bpf.attach_types
    security.delegate_bpf.cmd_types security.delegate_bpf.map_types security.delegate_bpf.prog_types security.devlxd
    security.devlxd.images security.devlxd.management.volumes security.guestapi security.idmap.base security.idmap.isolated
    security.idmap.size security.nesting security.privileged security.protection.delete security.protection.shift
    security.protection.start security.secureboot security.sev security.sev.policy.es security.sev.session.data
    security.sev.session.dh security.syscalls.allow security.syscalls.blacklist security.syscalls.blacklist_compat
    security.syscalls.blacklist_default security.syscalls.deny security.syscalls.deny_compat security.syscalls.deny_default
    security.syscalls.intercept.bpf security.syscalls.intercept.bpf.devices security.syscalls.intercept.mknod
    security.syscalls.intercept.mount security.syscalls.intercept.mount.allowed security.syscalls.intercept.mount.fuse
    security.syscalls.intercept.mount.shift security.syscalls.intercept.sched_setscheduler security.syscalls.intercept.setxattr
    security.syscalls.intercept.sysinfo security.syscalls.whitelist snapshots.expiry snapshots.pattern snapshots.schedule
    snapshots.schedule.stopped ubuntu_pro.guest_attach user.* volatile.*`),
  device: listed(`
    acceleration acceleration.parent address attached bind blob.size boot.priority busnum ceph.cluster_name ceph.user_name connect
    connected dependent devnum firmware gid gputype gvrp host_name hwaddr id initial.* io.bus io.cache io.threads ipv*.address
    ipv*.address.external ipv*.gateway ipv*.host_address ipv*.host_table ipv*.host_tables ipv*.neighbor_probe ipv*.routes
    ipv*.routes.external limits.burst.length limits.egress limits.ingress limits.max limits.max.burst limits.priority limits.read
    limits.read.burst limits.write limits.write.burst listen maas.subnet.ipv* major mdev mig.ci mig.gi mig.uuid minor mode mtu
    name nat nested network nictype node_guid ownership.inherit parent path pathrm pci pool port_guid productid propagation
    proxy_protocol queue.tx.length raw.mount.options readonly recursive required security.acls security.acls.default.egress.action
    security.acls.default.egress.logged security.acls.default.ingress.action security.acls.default.ingress.logged security.gid
    security.ipv4_filtering security.ipv6_filtering security.mac_filtering security.port_isolation security.promiscuous
    security.trusted security.uid serial shift size size.state source source.snapshot source.type subsystem type uid user.*
    vendorid vlan vlan.tagged vrf wwn`),
  pool: listed(`
    alletra.cpg alletra.mode alletra.target alletra.user.name alletra.user.password alletra.wsapi alletra.wsapi.verify
    btrfs.create_options btrfs.mount_options ceph.cluster_name ceph.osd.data_pool_name ceph.osd.force_reuse ceph.osd.pg_num
    ceph.osd.pool_name ceph.osd.pool_size ceph.rbd.clone_copy ceph.rbd.du ceph.rbd.features ceph.user.name cephfs.cluster_name
    cephfs.create_missing cephfs.data_pool cephfs.fscache cephfs.meta_pool cephfs.osd_pg_num cephfs.osd_pool_size cephfs.path
    cephfs.user.name cephobject.bucket.name_prefix cephobject.cluster_name cephobject.radosgw.endpoint
    cephobject.radosgw.endpoint_cert_file cephobject.user.name drbd.auto_add_quorum_tiebreaker drbd.auto_diskful drbd.on_no_quorum
    linstor.raw.* linstor.resource_group.name linstor.resource_group.place_count linstor.resource_group.storage_pool
    linstor.volume.prefix lvm.metadata_size lvm.thinpool_metadata_size lvm.thinpool_name lvm.use_thinpool lvm.vg.force_reuse
    lvm.vg_name powerflex.clone_copy powerflex.domain powerflex.gateway powerflex.gateway.verify powerflex.mode powerflex.pool
    powerflex.sdt powerflex.snapshot_copy powerflex.user.name powerflex.user.password powerstore.gateway powerstore.gateway.verify
    powerstore.mode powerstore.target powerstore.user.name powerstore.user.password pure.api.token pure.gateway
    pure.gateway.verify pure.mode pure.target rsync.bwlimit rsync.compression size source source.recover source.wipe
    truenas.allow_insecure truenas.api_key truenas.clone_copy truenas.config truenas.dataset truenas.force_reuse truenas.host
    truenas.initiator truenas.portal user.* volatile.* volume.* zfs.clone_copy zfs.export zfs.pool_name`),
  volume: listed(`
    block.filesystem block.mount_options lvm.stripes lvm.stripes.size security.shared security.shifted security.unmapped size
    snapshots.expiry snapshots.pattern snapshots.schedule user.* volatile.* zfs.block_mode zfs.blocksize zfs.delegate zfs.promote
    zfs.remove_snapshots zfs.reserve_space zfs.use_refquota`),
  network: listed(`
    acceleration.parent bgp.ipv*.instances bgp.ipv*.nexthop bgp.peers.*.address bgp.peers.*.asn bgp.peers.*.holdtime
    bgp.peers.*.interface bgp.peers.*.password bridge.driver bridge.external_interfaces bridge.hwaddr bridge.mode bridge.mtu
    bridge.multicast_relay bridge.multicast_snooping dns.domain dns.mode dns.nameservers dns.search dns.zone.forward
    dns.zone.reverse.ipv* fan.overlay_subnet fan.type fan.underlay_subnet gvrp ipv*.address ipv*.dhcp ipv*.dhcp.expiry
    ipv*.dhcp.ranges ipv*.firewall ipv*.gateway ipv*.gateway.hwaddr ipv*.l3only ipv*.nat ipv*.nat.address ipv*.nat.order
    ipv*.ovn.ranges ipv*.routes ipv*.routes.anycast ipv*.routing ipv4.dhcp.gateway ipv4.dhcp.routes ipv6.dhcp.stateful
    maas.subnet.ipv* mtu network ovn.ingress_mode parent raw.dnsmasq security.acls security.acls.default.egress.action
    security.acls.default.egress.logged security.acls.default.ingress.action security.acls.default.ingress.logged tunnel.*.group
    tunnel.*.id tunnel.*.interface tunnel.*.local tunnel.*.port tunnel.*.protocol tunnel.*.remote tunnel.*.ttl user.* vlan
    vlan.tagged volatile.*`),
  project: listed(`
    backups.compression_algorithm features.images features.networks features.networks.zones features.profiles
    features.storage.buckets features.storage.volumes images.auto_update_cached images.auto_update_interval
    images.compression_algorithm images.default_architecture images.remote_cache_expiry limits.containers limits.cpu limits.disk
    limits.disk.pool.* limits.instances limits.memory limits.networks limits.networks.uplink_ips.ipv*.* limits.processes
    limits.virtual-machines replica.cluster restricted restricted.backups restricted.cluster.groups restricted.cluster.target
    restricted.containers.interception restricted.containers.lowlevel restricted.containers.nesting
    restricted.containers.privilege restricted.devices.disk restricted.devices.disk.paths restricted.devices.gpu
    restricted.devices.infiniband restricted.devices.nic restricted.devices.pci restricted.devices.proxy
    restricted.devices.unix-block restricted.devices.unix-char restricted.devices.unix-hotplug restricted.devices.usb
    restricted.idmap.gid restricted.idmap.uid restricted.networks.access restricted.networks.subnets restricted.networks.uplinks
    restricted.networks.zones restricted.registries restricted.snapshots restricted.virtual-machines.lowlevel user.*`),
  member: ["scheduler.instance", "user.*"],
  server: listed(`
    acme.agree_tos acme.ca_url acme.domain acme.email backups.compression_algorithm candid.api.key candid.api.url candid.domains
    candid.expiry cluster.healing_threshold cluster.https_address cluster.images_minimal_replica cluster.join_token_expiry
    cluster.max_standby cluster.max_voters cluster.offline_threshold core.auth_secret_expiry core.bgp_address core.bgp_asn
    core.bgp_routerid core.debug_address core.dns_address core.https_address core.https_allowed_credentials
    core.https_allowed_headers core.https_allowed_methods core.https_allowed_origin core.https_trusted_proxy core.metrics_address
    core.metrics_authentication core.proxy_http core.proxy_https core.proxy_ignore_hosts core.remote_token_expiry
    core.shutdown_timeout core.storage_buckets_address core.syslog_socket core.trust_ca_certificates core.trust_password
    images.auto_update_cached images.auto_update_interval images.compression_algorithm images.default_architecture
    images.remote_cache_expiry instances.migration.stateful instances.nic.host_name instances.placement.scriptlet
    loki.api.ca_cert loki.api.url loki.auth.password loki.auth.username loki.instance loki.labels loki.loglevel loki.types
    maas.api.key maas.api.url maas.machine network.ovn.ca_cert network.ovn.client_cert network.ovn.client_key
    network.ovn.integration_bridge network.ovn.northbound_connection oidc.audience oidc.client.id oidc.client.secret
    oidc.groups.claim oidc.issuer oidc.scopes oidc.session.expiry rbac.agent.private_key rbac.agent.public_key rbac.agent.url
    rbac.agent.username rbac.api.expiry rbac.api.key rbac.api.url rbac.expiry storage.backups_volume storage.images_volume
    storage.project.*.backups_volume storage.project.*.images_volume user.* volatile.*`),
};

/** The other keys that Incus alone has, from the metadata of Incus 6.0.4 and 7.0.2. A server that tells its keys is asked about them. */
export const INCUS_KEYS: Readonly<Record<ConfigOwner, readonly string[]>> = {
  instance: listed(`
    initial.nvram-binary.* initial.nvram.* initial.secureboot.* limits.memory.hotplug limits.memory.oom_priority oci.cwd
    oci.dns.domain oci.dns.nameservers oci.dns.search oci.entrypoint oci.gid oci.uid raw.qemu.qmp.early raw.qemu.qmp.post-start
    raw.qemu.qmp.pre-start raw.qemu.scriptlet security.bpffs.delegate_attachs security.bpffs.delegate_cmds
    security.bpffs.delegate_maps security.bpffs.delegate_progs security.bpffs.path security.guestapi.images security.iommu
    security.selinux.domain security.selinux.label_rootfs security.selinux.level security.selinux.type security.tags smbios11.*
    snapshots.expiry.manual systemd.credential-binary.* systemd.credential.*`),
  device: listed(`
    limits.egress.bucket limits.egress.burst limits.ingress.bucket limits.ingress.burst limits.max.bucket limits.max.burst.length
    limits.read.burst.length limits.write.burst.length nvidia.clique queue.discipline queue.discipline.attach`),
  pool: listed(`
    block.type ceph.osd.pg_name ceph.rbd.backend cephobject.bucket_name_prefix cephobject.radosgw.endpoint_cert`),
  volume: listed(`
    block.create_options block.type btrfs.compression dependent drbd.auto_add_quorum_tiebreaker drbd.auto_diskful drbd.on_no_quorum
    initial.gid initial.mode initial.uid linstor.raw.* linstor.remove_snapshots lvmcluster.remove_snapshots security.size
    snapshots.expiry.manual truenas.blocksize truenas.remove_snapshots truenas.use_refquota`),
  network: ["dns.include_hosts", "ipv6.ra"],
  project: listed(`
    network.hwaddr_pattern restricted.images.servers restricted.networks.integrations restricted.storage-pools.access
    restricted.virtual-machines.nesting`),
  member: [],
  server: listed(`
    acme.challenge acme.eab.hmac acme.eab.kid acme.http.port acme.provider acme.provider.environment acme.provider.resolvers
    authorization.scriptlet cluster.rebalance.batch cluster.rebalance.cooldown cluster.rebalance.interval
    cluster.rebalance.threshold core.https_allowed_websocket_origin core.shutdown_action instances.lxcfs.per_instance logging.*
    network.ovs.connection oidc.allowed_subnets oidc.claim openfga.api.token openfga.api.url openfga.store.id
    storage.linstor.ca_cert storage.linstor.client_cert storage.linstor.client_key storage.linstor.controller_connection
    storage.linstor.satellite.name storage.logs_volume`),
};

/** Splits a list of keys. `ipv*` stands for `ipv4` and `ipv6`. */
function listed(keys: string): string[] {
  return keys
    .trim()
    .split(/\s+/)
    .flatMap((key) => (key.includes("ipv*") ? [key.replace("ipv*", "ipv4"), key.replace("ipv*", "ipv6")] : [key]));
}

/** Groups of the metadata and their parts by owner. Incus 6.0 has none of pools and networks. */
const GROUPS: Readonly<Record<Exclude<ConfigOwner, "device">, RegExp>> = {
  instance: /^instance\//,
  pool: /^storage[-_](?!bucket|volume)/,
  volume: /^storage[-_]volume/,
  network: /^network[-_](bridge|macvlan|ovn|physical|sriov)\//,
  project: /^project\//,
  member: /^cluster\//,
  server: /^server\//,
};

/** Whether the config of a server has one value of a key for each member. LXD and Incus describe that as the scope of the key. */
export type Scope = "local" | "global";

/** Beginnings of those of devices, which end with the type: LXD's `device-nic-bridged/`, Incus's `devices/nic_bridged`. Incus 6.0 has some types. */
const DEVICE_GROUPS = ["device-", "device-unix-", "devices/"];

const groupSchema = z.looseObject({ keys: listOf(z.record(z.string(), z.looseObject({ scope: z.unknown().optional() }))) });
const metadataSchema = z.looseObject({ configs: z.record(z.string(), z.record(z.string(), groupSchema)) });

export function isKnownKey(owner: ConfigOwner, key: string): boolean {
  return matches(KNOWN_KEYS[owner], key);
}

/**
 * Reads from a server's own metadata which keys it has. The returned function answers `undefined` for an owner, or a type of device, that the
 * metadata omits, and always when the server has no metadata.
 */
export async function serversKeys(lxd: LxdClient): Promise<(owner: ConfigOwner, deviceType?: string) => string[] | undefined> {
  const parts = (await metadataOf(lxd)).map(({ name, keys }) => ({ name, keys: keys.map(([key]) => key) }));
  return (owner, deviceType = "") => {
    const [kind] = deviceType.split("-"); // the types unix-char and unix-block share a part in Incus
    const isOf = (name: string): boolean =>
      owner === "device" ? DEVICE_GROUPS.some((start) => name.startsWith(`${start}${kind}`)) : GROUPS[owner].test(name);
    const keys = parts.filter(({ name }) => isOf(name)).flatMap((part) => part.keys);
    return keys.length === 0 ? undefined : keys;
  };
}

/**
 * Reads from a server's own metadata the scopes of the keys of its config. The returned function answers `undefined` for a key that the metadata
 * omits.
 */
export async function serverKeyScopes(lxd: LxdClient): Promise<(key: string) => Scope | undefined> {
  const keys = (await metadataOf(lxd)).filter(({ name }) => GROUPS.server.test(name)).flatMap((part) => part.keys);
  const scoped = (scope: Scope): string[] => keys.filter(([, described]) => described.scope === scope).map(([key]) => key);
  const [local, global] = [scoped("local"), scoped("global")];
  return (key) => (matches(local, key) ? "local" : matches(global, key) ? "global" : undefined);
}

/** The keys in the server's metadata, by group and part. Empty when the server has none. */
async function metadataOf(lxd: LxdClient): Promise<{ name: string; keys: [string, { scope?: unknown }][] }[]> {
  const { api_extensions: extensions } = await getServerShared(lxd);
  if (!extensions.includes("metadata_configuration")) {
    return [];
  }
  const { configs } = await lxd.getShared("/1.0/metadata/configuration", metadataSchema);
  return Object.entries(configs).flatMap(([group, of]) =>
    Object.entries(of).map(([part, { keys }]) => ({
      name: `${group}/${part}`,
      keys: keys.flatMap((key) => Object.entries(key)),
    })),
  );
}

/**
 * Whether one of the keys matches. `*`, and parts such as NAME in `bgp.peers.NAME.asn` and `<name>` in `initial.nvram.<name>`, stand for any
 * text.
 */
export function matches(keys: readonly string[], key: string): boolean {
  return keys.includes(key) || keys.some((known) => pattern(known)?.test(key) === true);
}

function pattern(known: string): RegExp | undefined {
  if (!/\*|(^|\.)([A-Z_]+|<.+>|\{.+\})(\.|$)/.test(known)) {
    return undefined;
  }
  const parts = known
    .split(".")
    .map((part) => (part === "*" || /^([A-Z_]+|<.+>|\{.+\})$/.test(part) ? ".+" : part.replaceAll("*", ".*")));
  return new RegExp(`^${parts.join("\\.")}$`);
}
