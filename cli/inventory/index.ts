/** Reads what a cluster has, for its adoption. */
import { listClientCertificates } from "../../provider/lxd/certificates";
import { listOf } from "../../provider/lxd/client/answers";
import { OWNER_KEY } from "../../provider/lxd/config";
import { isFeature } from "../../provider/lxd/projects";
import { projectLifecycle } from "../../provider/resources/lxd-project";
import { trustCertificateLifecycle } from "../../provider/resources/lxd-trust-certificate";
import type { Asked } from "../arguments";
import { openHosts } from "../hosts";
import type { ClusterContents, Feature } from "./contents";
import { images, instances, profiles } from "./instances";
import { clusterGroups, configOfCluster, nodesAndMembers } from "./members";
import { configuredSchema, Reading } from "./reading";
import { networkAcls, networks, pools, volumes } from "./storage-and-networks";

export { type ClusterContents, KINDS, type Taken } from "./contents";

/** Reads everything that the library manages. */
export async function readCluster(asked: Pick<Asked, "hosts" | "owned">, tell: (text: string) => void): Promise<ClusterContents> {
  const reading = new Reading(await openHosts(asked.hosts), asked.owned, tell);
  const { lxd } = reading.hosts.first;
  for (const project of await lxd.get("/1.0/projects", listOf(configuredSchema), { recursion: 1 })) {
    reading.projects.set(project.name, project.config ?? {});
  }
  await nodesAndMembers(reading);
  await clusterGroups(reading);
  await configOfCluster(reading);
  await pools(reading);
  await trustCertificates(reading);
  for (const project of [...reading.projects.keys()].sort()) {
    await takeProject(reading, project);
    await ofProject(reading, project);
  }
  const holderOf = (project: string, feature: Feature): string => reading.holderOf(project, feature);
  const hosts = reading.hosts.all.map(({ name, args }) => ({ name, args }));
  return { hosts, names: lxd.names, taken: reading.taken, leftOut: reading.leftOut, holderOf };
}

async function takeProject(reading: Reading, name: string): Promise<void> {
  const config = reading.projects.get(name) ?? {};
  const features = Object.entries(config).filter(([key]) => isFeature(key)); // a new project would get LXD's defaults
  if (name !== "default") {
    const object = { what: `project ${name}`, name, mark: config[OWNER_KEY] };
    await reading.take(projectLifecycle, object, { name, config: Object.fromEntries(features) });
  }
}

/** Takes the certificates of clients. Those of members belong to their memberships. */
async function trustCertificates(reading: Reading): Promise<void> {
  for (const { name, certificate, type, restricted, fingerprint, config } of await listClientCertificates(
    reading.hosts.first.lxd,
  )) {
    const object = { what: `trusted certificate ${fingerprint.slice(0, 12)} (${name})`, name, mark: config[OWNER_KEY] };
    await reading.take(trustCertificateLifecycle, object, { name, certificate, type, restricted });
  }
}

async function ofProject(reading: Reading, project: string): Promise<void> {
  if (reading.holderOf(project, "storage.volumes") === project) {
    await volumes(reading, project);
  }
  if (reading.holderOf(project, "networks") === project) {
    await networkAcls(reading, project);
    await networks(reading, project);
  }
  if (reading.holderOf(project, "images") === project) {
    await images(reading, project);
  }
  if (reading.holderOf(project, "profiles") === project) {
    await profiles(reading, project);
  }
  await instances(reading, project);
}
