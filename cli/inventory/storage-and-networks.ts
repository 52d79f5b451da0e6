/** Reads storage pools, volumes, networks, and what belongs to these. */

import * as z from "zod";
import { listOf } from "../../provider/lxd/client/answers";
import { api } from "../../provider/lxd/client/client";
import { type Config, isServerMade, OWNER_KEY } from "../../provider/lxd/config";
import { findObject, type MemberObject, type ObjectRef, viewsOf } from "../../provider/lxd/storage-and-networks/member-objects";
import { inOrderOfUse, listNetworkAclsShared } from "../../provider/lxd/storage-and-networks/network-acls";
import { listNetworkForwardsShared } from "../../provider/lxd/storage-and-networks/network-forwards";
import { network } from "../../provider/lxd/storage-and-networks/networks";
import { POOLS, pool, sourcesOf } from "../../provider/lxd/storage-and-networks/storage-pools";
import { networkLifecycle } from "../../provider/resources/lxd-network";
import { networkAclLifecycle } from "../../provider/resources/lxd-network-acl";
import { networkForwardLifecycle } from "../../provider/resources/lxd-network-forward";
import { storagePoolLifecycle } from "../../provider/resources/lxd-storage-pool";
import { storageVolumeLifecycle } from "../../provider/resources/lxd-storage-volume";
import { configuredSchema, named, namedSchema, type Reading } from "./reading";

const networkSchema = z.looseObject({ name: z.string(), managed: z.boolean(), type: z.string() });
const volumeSchema = z.looseObject({
  name: z.string(),
  content_type: z.string(),
  location: z.string().default(""),
  config: configuredSchema.shape.config,
});

export async function pools(reading: Reading): Promise<void> {
  const { lxd } = reading.hosts.first;
  for (const { name } of await lxd.get("/1.0/storage-pools", listOf(namedSchema), { recursion: 1 })) {
    const found = await findObject(lxd, pool(name));
    if (found !== undefined) {
      const object = { what: `storage pool ${name}`, name, mark: found.value.config?.[OWNER_KEY] };
      const args = { name, driver: found.value.driver, ...(await configsOf(reading, pool(name), found.value)) };
      await reading.take(storagePoolLifecycle, object, args);
    }
  }
}

/** Returns the config of a pool or network, with each member's own values unless LXD chose them. */
async function configsOf(
  reading: Reading,
  ref: ObjectRef,
  { config }: MemberObject,
): Promise<{ config: Config; memberConfig: Record<string, Config> }> {
  const { all, members, first } = reading.hosts;
  const { type, name } = ref;
  const common = Object.entries(config ?? {}).filter(
    ([key, value]) => value !== "" && !isServerMade(key) && !type.memberKeys.includes(key),
  );
  const servers = {
    clustered: members.length > 0,
    members: members.length > 0 ? members : [{ server_name: first.name, status: "Online", isDown: false }],
  };
  const views = await viewsOf(first.lxd, ref, servers);
  const sources = type === POOLS ? sourcesOf(views) : {};
  const ofMembers = all.map(({ name: member }): [string, Config] => {
    const live: Config = {
      ...views.get(member)?.value.config,
      ...(sources[member] === undefined ? {} : { source: sources[member] }),
    };
    const own = type.memberKeys.filter((key) => (live[key] ?? "") !== "" && !isChosenByLxd(name, key, live[key] ?? ""));
    return [member, Object.fromEntries(own.map((key) => [key, live[key] ?? ""]))];
  });
  return {
    config: Object.fromEntries(common),
    memberConfig: Object.fromEntries(ofMembers.filter(([, own]) => Object.keys(own).length > 0)),
  };
}

export async function volumes(reading: Reading, project: string): Promise<void> {
  const { lxd } = reading.hosts.first;
  for (const pool of await lxd.get("/1.0/storage-pools", listOf(namedSchema), { recursion: 1 })) {
    const path = api`/1.0/storage-pools/${pool.name}/volumes/custom`;
    const volumes = await lxd.get(path, listOf(volumeSchema), { recursion: 1, project });
    for (const { name, content_type, location, config } of volumes.filter((each) => !isSnapshot(each))) {
      const target = location === "none" ? "" : location;
      const what = `volume ${named(project, name)} of pool ${pool.name}${target === "" ? "" : ` on ${target}`}`;
      if (content_type !== "filesystem" && content_type !== "block") {
        reading.leaveOut(what, `its content is ${content_type}, and LxdStorageVolume manages only filesystem and block`);
        continue;
      }
      const own = Object.entries(config ?? {}).filter(([key, value]) => value !== "" && !isServerMade(key));
      await reading.take(
        storageVolumeLifecycle,
        { what, name, project, mark: config?.[OWNER_KEY] },
        {
          ...{ name, pool: pool.name, project, ...(target !== "" && { target }) },
          ...{ contentType: content_type, config: Object.fromEntries(own) },
        },
      );
    }
  }
}

export async function networkAcls(reading: Reading, project: string): Promise<void> {
  const { lxd } = reading.hosts.first;
  for (const { name, config } of inOrderOfUse(await listNetworkAclsShared(lxd, project))) {
    const object = { what: `network ACL ${named(project, name)}`, name, project, mark: config?.[OWNER_KEY] };
    await reading.take(networkAclLifecycle, object, { name, project });
  }
}

export async function networks(reading: Reading, project: string): Promise<void> {
  const { lxd } = reading.hosts.first;
  const networks = await lxd.get("/1.0/networks", listOf(networkSchema), { recursion: 1, project });
  for (const { name, type } of networks.filter(({ managed }) => managed)) {
    const found = await findObject(lxd, network(project, name));
    if (found !== undefined) {
      const object = { what: `network ${named(project, name)}`, name, project, mark: found.value.config?.[OWNER_KEY] };
      const args = { name, project, type, ...(await configsOf(reading, network(project, name), found.value)) };
      await reading.take(networkLifecycle, object, args);
    }
    if (type === "bridge" || type === "ovn") {
      await forwards(reading, project, name); // the others have none
    }
  }
}

async function forwards(reading: Reading, project: string, of: string): Promise<void> {
  for (const { listen_address, location, config } of await listNetworkForwardsShared(reading.hosts.first.lxd, {
    project,
    network: of,
  })) {
    const target = reading.hosts.members.length === 0 ? {} : { target: location };
    const name = `${of}-${listen_address}${reading.hosts.members.length === 0 ? "" : `-${location}`}`;
    const what = `forward ${listen_address} of network ${named(project, of)}`;
    const object = { what, name, project, mark: config?.[OWNER_KEY] };
    await reading.take(networkForwardLifecycle, object, { network: of, project, listenAddress: listen_address, ...target });
  }
}

/** Whether an element of the list of volumes is a snapshot, which has its volume's name before a slash. */
function isSnapshot({ name }: { readonly name: string }): boolean {
  return name.includes("/");
}

/** Whether a member's value is LXD's default. The size of a loop file is always written. */
function isChosenByLxd(name: string, key: string, value: string): boolean {
  return (
    (key === "source" && (value === name || value.endsWith(`/disks/${name}.img`) || value.endsWith(`/storage-pools/${name}`))) ||
    (key === "zfs.pool_name" && value === name) ||
    (key === "lvm.vg_name" && value === name) ||
    (key === "lvm.thinpool_name" && ["LXDThinPool", "IncusThinPool"].includes(value)) ||
    key === "source.wipe" ||
    key === "source.recover"
  );
}
