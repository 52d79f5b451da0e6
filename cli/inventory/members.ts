/** Reads the hosts of a cluster, its members and groups, and its config. */

import { DAEMON_PACKAGES } from "../../provider/host/installed";
import { findSnap } from "../../provider/host/snapd";
import { listOf } from "../../provider/lxd/client/answers";
import { DEFAULT_GROUP } from "../../provider/lxd/cluster/cluster";
import { findClusterGroup } from "../../provider/lxd/cluster/cluster-groups";
import { type Config, isServerMade, OWNER_KEY } from "../../provider/lxd/config";
import { describeOwner } from "../../provider/lxd/ownership";
import { LOCAL_CONFIG, serverConfig } from "../../provider/lxd/server";
import { asFormer, recordsIn, UNRECORDED } from "../../provider/lxd/server-config/server-config";
import { hostMachine } from "../../provider/machine/host";
import { installedDebPackages } from "../../provider/machine/packages/apt";
import { clusterGroupLifecycle } from "../../provider/resources/lxd-cluster-group";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { nodeLifecycle } from "../../provider/resources/lxd-node";
import { serverConfigLifecycle } from "../../provider/resources/lxd-server-config";
import type { Host } from "../hosts";
import { namedSchema, type Reading } from "./reading";

export async function nodesAndMembers(reading: Reading): Promise<void> {
  const { all, first, members } = reading.hosts;
  const membershipOf = ({ name }: Host) => members.find(({ server_name }) => server_name === name);
  for (const host of all) {
    const own = Object.entries(serverConfig(host.server)).filter(([key, value]) => LOCAL_CONFIG.test(key) && value !== "");
    const object = { what: `host ${host.name}`, name: host.name, mark: membershipOf(host)?.config?.[OWNER_KEY] };
    const args = { connection: host.connection, install: await installOf(reading, host), config: Object.fromEntries(own) };
    await reading.take(nodeLifecycle, object, args);
  }
  for (const host of all) {
    const member = membershipOf(host);
    if (member !== undefined) {
      const object = { what: `member ${host.name}`, name: host.name, mark: member.config?.[OWNER_KEY] };
      const through = host === first ? {} : { cluster: { endpoints: [first.connection] } };
      const address = member.url.replace(/^https:\/\//, "").replace(/:8443$/, "");
      await reading.take(clusterMemberLifecycle, object, { connection: host.connection, ...through, name: host.name, address });
    }
  }
}

export async function clusterGroups(reading: Reading): Promise<void> {
  const { first, members } = reading.hosts;
  const groups = members.length === 0 ? [] : await first.lxd.get("/1.0/cluster/groups", listOf(namedSchema), { recursion: 1 });
  for (const { name } of groups) {
    const found = name === DEFAULT_GROUP ? undefined : await findClusterGroup(first.lxd, name);
    if (found !== undefined) {
      const object = { what: `cluster group ${name}`, name, mark: found.value.config[OWNER_KEY] };
      await reading.take(clusterGroupLifecycle, object, { name });
    }
  }
}

/** Takes the keys of the whole cluster. Those of one host are in its node. */
export async function configOfCluster(reading: Reading): Promise<void> {
  const all = serverConfig(reading.hosts.first.server);
  const records = recordsIn(new Map([["", all]]));
  const own: Config = {};
  for (const [key, value] of Object.entries(all)) {
    const mark = reading.owned ? undefined : records.find(({ former }) => key in former.config)?.mark;
    if (value === "" || LOCAL_CONFIG.test(key) || key === "cluster.https_address" || isServerMade(key)) {
      continue;
    }
    if (mark !== undefined) {
      reading.leaveOut(`config key ${key}`, `it belongs to ${describeOwner(mark)}; adopt it with --owned`);
    } else if (asFormer(key, value) === UNRECORDED) {
      reading.leaveOut(`config key ${key}`, "the server does not tell its value");
    } else {
      own[key] = value;
    }
  }
  if (Object.keys(own).length > 0) {
    await reading.take(serverConfigLifecycle, { what: "server config", name: "server-config" }, { config: own });
  }
}

async function installOf(reading: Reading, { lxd, ssh }: Host): Promise<unknown> {
  const { packaging } = lxd.endpoint.socket;
  if (packaging === "incus") {
    const packages = await installedDebPackages(hostMachine(ssh, reading.hosts.deadline), DAEMON_PACKAGES.incus);
    const isBaseOnly = packages.length > 0 && !packages.includes("incus");
    return packages.length > 0 && { method: "deb", server: "incus", ...(isBaseOnly && { serverPackage: "incus-base" }) };
  }
  if (packaging === "deb") {
    return { method: "deb" };
  }
  const snap = await findSnap(ssh, reading.hosts.deadline);
  return snap === undefined ? false : { method: "snap", channel: snap.channel, ...(snap.held ? {} : { hold: false }) };
}
