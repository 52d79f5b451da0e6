import * as z from "zod";
import { listOf } from "../client/answers";
import { api, type LxdClient, type Tagged } from "../client/client";
import type { Config } from "../config";
import { aclRuleSchema, type LiveRule } from "./acl-rules";

/** `/1.0/network-acls`: https://documentation.ubuntu.com/lxd/latest/howto/network_acls/ */
const aclSchema = z.looseObject({
  name: z.string(),
  description: z.string().default(""),
  config: z.record(z.string(), z.string()).nullish(),
  ingress: listOf(aclRuleSchema),
  egress: listOf(aclRuleSchema),
  used_by: listOf(z.string()),
});

export type NetworkAcl = z.output<typeof aclSchema>;

export interface NetworkAclPut {
  readonly description: string;
  readonly config: Config;
  readonly ingress: readonly LiveRule[];
  readonly egress: readonly LiveRule[];
}

export type FoundNetworkAcl = Tagged<NetworkAcl>;

export function findNetworkAcl(lxd: LxdClient, project: string, name: string): Promise<FoundNetworkAcl | undefined> {
  return lxd.findWithEtag(api`/1.0/network-acls/${name}`, aclSchema, { project });
}

/** {@link findNetworkAcl} in one list that all reads of this process share. */
export async function findNetworkAclShared(lxd: LxdClient, project: string, name: string): Promise<NetworkAcl | undefined> {
  return (await listNetworkAclsShared(lxd, project)).find((acl) => acl.name === name);
}

/** Lists ACLs; none of a server that is older than ACLs. */
export async function listNetworkAclsShared(lxd: LxdClient, project: string): Promise<NetworkAcl[]> {
  return (await lxd.findShared("/1.0/network-acls", listOf(aclSchema), { project, recursion: 1 })) ?? [];
}

export async function createNetworkAcl(lxd: LxdClient, project: string, name: string, body: NetworkAclPut): Promise<void> {
  await lxd.change("POST", "/1.0/network-acls", { query: { project }, body: { name, ...body } });
}

/** LXD applies the new rules at once, on all members that have a bridge with the ACL. */
export async function replaceNetworkAcl(
  lxd: LxdClient,
  project: string,
  found: FoundNetworkAcl,
  change: (live: NetworkAcl) => NetworkAclPut,
): Promise<void> {
  await lxd.modify(api`/1.0/network-acls/${found.value.name}`, aclSchema, change, { query: { project }, found });
}

export async function deleteNetworkAcl(lxd: LxdClient, project: string, name: string): Promise<void> {
  await lxd.remove(api`/1.0/network-acls/${name}`, { project });
}

/** Sorts ACLs so that each comes after those that its rules name, unless they name each other. */
export function inOrderOfUse(acls: readonly NetworkAcl[]): NetworkAcl[] {
  const ordered = new Set<NetworkAcl>();
  const seen = new Set<string>();
  const add = (acl: NetworkAcl): void => {
    if (!seen.has(acl.name)) {
      seen.add(acl.name);
      const subjects = [...acl.ingress, ...acl.egress].flatMap(({ source, destination }) =>
        `${source},${destination}`.split(","),
      );
      acls.filter(({ name }) => subjects.includes(name)).forEach(add);
      ordered.add(acl);
    }
  };
  acls.forEach(add);
  return [...ordered];
}
