import * as z from "zod";
import { listOf } from "../client/answers";
import { api, type LxdClient, type Tagged } from "../client/client";
import type { Config } from "../config";
import { canonicalAddresses } from "../meaning";
import { type LivePort, livePortSchema } from "./forward-ports";

/** `/1.0/networks/NETWORK/forwards`: https://documentation.ubuntu.com/lxd/latest/howto/network_forwards/ */
const forwardSchema = z.looseObject({
  listen_address: z.string(),
  /** The member of a bridge's forward; "none" on a standalone server, empty when it is one of all members. */
  location: z.string().default(""),
  description: z.string().default(""),
  config: z.record(z.string(), z.string()).nullish(),
  ports: listOf(livePortSchema),
});

export type NetworkForward = z.output<typeof forwardSchema>;

export interface NetworkForwardPut {
  readonly description: string;
  readonly config: Config;
  readonly ports: readonly LivePort[];
}

export type FoundNetworkForward = Tagged<NetworkForward>;

/** What identifies a forward. On a bridge, each member may have one with the same address. */
export interface ForwardRef {
  readonly project: string;
  readonly network: string;
  readonly listenAddress: string;
  readonly target?: string | undefined;
}

function collectionOf({ network }: Pick<ForwardRef, "network">): string {
  return api`/1.0/networks/${network}/forwards`;
}

/** LXD stores an address in its shortest spelling. */
function pathOf(ref: ForwardRef): string {
  return collectionOf(ref) + api`/${canonicalAddresses(ref.listenAddress)}`;
}

function queryOf({ project, target }: ForwardRef): { project: string; target: string | undefined } {
  return { project, target };
}

export function findNetworkForward(lxd: LxdClient, ref: ForwardRef): Promise<FoundNetworkForward | undefined> {
  return lxd.findWithEtag(pathOf(ref), forwardSchema, queryOf(ref));
}

/** {@link findNetworkForward} in one list that all reads of this process share. The list has those of members that are down. */
export async function findNetworkForwardShared(lxd: LxdClient, ref: ForwardRef): Promise<NetworkForward | undefined> {
  const { listenAddress, target } = ref;
  const all = await listNetworkForwardsShared(lxd, ref);
  return all.find(
    ({ listen_address, location }) =>
      listen_address === canonicalAddresses(listenAddress) && (target === undefined || location === target),
  );
}

/** Lists the forwards of a network on all members; none of a network that does not exist. */
export async function listNetworkForwardsShared(
  lxd: LxdClient,
  ref: Pick<ForwardRef, "project" | "network">,
): Promise<NetworkForward[]> {
  return (await lxd.findShared(collectionOf(ref), listOf(forwardSchema), { project: ref.project, recursion: 1 })) ?? [];
}

export async function createNetworkForward(lxd: LxdClient, ref: ForwardRef, body: NetworkForwardPut): Promise<void> {
  const listen_address = canonicalAddresses(ref.listenAddress);
  await lxd.change("POST", collectionOf(ref), { query: queryOf(ref), body: { listen_address, ...body } });
}

export async function replaceNetworkForward(
  lxd: LxdClient,
  ref: ForwardRef,
  found: FoundNetworkForward,
  change: (live: NetworkForward) => NetworkForwardPut,
): Promise<void> {
  await lxd.modify(pathOf(ref), forwardSchema, change, { query: queryOf(ref), found });
}

export async function deleteNetworkForward(lxd: LxdClient, ref: ForwardRef): Promise<void> {
  await lxd.remove(pathOf(ref), queryOf(ref));
}
