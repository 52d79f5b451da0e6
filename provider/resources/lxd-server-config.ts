/**
 * Keys of the config of a server or cluster: those of the whole cluster, and each member's own.
 * @see https://documentation.ubuntu.com/lxd/latest/server/ (LXD 5.0 to 6)
 */
import { type CustomResourceOptions, type Input, mergeOptions, type Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import type { LxdClient } from "../lxd/client/client";
import { withClusterLock } from "../lxd/cluster/cluster-lock";
import { getServers, getServersShared, type Servers } from "../lxd/cluster/servers";
import { type Config, forState, sameConfig, sameConfigValue } from "../lxd/config";
import { serverKeyScopes } from "../lxd/config-keys";
import { memberNameSchema } from "../lxd/names";
import { describeOwner } from "../lxd/ownership";
import { setServerConfig } from "../lxd/server";
import { claimKeys, describeFormer, markOfOther } from "../lxd/server-config/claims";
import {
  entriesOf,
  type LiveServerConfig,
  liveAt,
  NO_VALUES,
  pathOf,
  readServerConfig,
  readServerConfigShared,
  recordAt,
  recordsIn,
  type ServerRecord,
  type ServerValue,
  type ServerValues,
  toConfig,
  UNRECORDED,
  valueAt,
  valuesOf,
} from "../lxd/server-config/server-config";
import { serverConfigSchema } from "../lxd/server-config/values";
import { IncompleteError, messageOf, RefusedError } from "../support/errors";
import type { ClusterInput, ConfigArgs } from "./common-args";

const schema = z.strictObject({
  ...inCluster,
  config: serverConfigSchema("config").default({}),
  memberConfig: z.record(memberNameSchema, serverConfigSchema("memberConfig")).default({}),
  adopt: z.boolean().default(false),
});

/** Arguments of {@link LxdServerConfig}. */
export interface LxdServerConfigArgs {
  /** The cluster, or standalone server. */
  cluster: ClusterInput;
  /**
   * Keys with one value for the whole cluster, such as `cluster.images_minimal_replica` or `images.auto_update_interval`. Only these keys are
   * managed. An empty value unsets a key.
   * @default {}
   */
  config?: Input<ConfigArgs>;
  /**
   * Keys with a value for each member, by name of the member, such as `{ bcn1: { "core.bgp_routerid": "192.168.1.101" } }`. A standalone server
   * has its host name as its name.
   * @default {}
   */
  memberConfig?: Input<Record<string, Input<ConfigArgs>>>;
  /** Take over keys that have another value, or that another resource manages. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 60 for read, 120 for all others */
  timeouts?: Input<TimeoutArgs>;
}

type Inputs = z.output<typeof schema>;

interface Outputs {
  former: ServerValues;
  /**
   * What the server told of keys after they were written, where that is not the value: it omits values that are its defaults, and hides some
   * secrets.
   */
  reported: ServerValues;
}

type State = Inputs & Outputs;

/** See {@link LxdServerConfig}. @internal */
export const serverConfigLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "LxdServerConfig",
  schemaVersion: 1,
  schema,
  configOf: "server",
  immutable: [],
  timeouts: { create: 120, read: 60, update: 120, delete: 120 },
  sameBy: { config: sameKeys, memberConfig: (a, b) => sameKeysOfMembers(a, b) },

  previewWarnings: (state, inputs) =>
    entriesOf(formerIn(state))
      .filter((entry) => valueAt(inputs, entry) === undefined)
      .map((entry) => `${pathOf(entry)} is no longer managed: ${describeFormer(entry)}`),

  async previewEffects(context, inputs) {
    const lxd = await context.lxd(inputs.cluster);
    const wrong = await wrongScopes(lxd, inputs);
    const { unknown } = membersOf(await getServersShared(lxd), inputs);
    return [
      ...wrong.map((reason) => `pulumi up will refuse this. ${reason}`),
      ...unknown.map((member) => `${member} is no member of the cluster yet. Unless it joins before, pulumi up will refuse this`),
    ];
  },

  async create(context, inputs) {
    return { id: "server-config", outputs: await save(context, inputs, undefined) };
  },

  async read(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    const servers = await getServersShared(lxd);
    const [former, { reported = NO_VALUES }] = [formerIn(state), state as Partial<Outputs>];
    const live = await readServerConfigShared(lxd, servers, Object.keys(former.memberConfig));
    const own = recordsIn(live).find(({ at }) => at === recordAt(context.claim));
    const seen = (entry: ServerValue): ServerValue => {
      const known = { ...entry, value: valueAt(state, entry) ?? "" };
      return { ...entry, value: observed(known, live, servers, reported) };
    };
    const { config, memberConfig } = valuesOf(entriesOf(former).map(seen));
    const members = Object.keys({ ...state.memberConfig, ...memberConfig });
    return {
      inputs: {
        config: shown(state.config, config),
        memberConfig: Object.fromEntries(
          members.map((member) => [member, shown(state.memberConfig[member] ?? {}, memberConfig[member] ?? {})]),
        ),
      },
      outputs: { former, reported },
      mark: markOfOther(former, live, context) ?? own?.mark,
    };
  },

  update: (context, _id, state, inputs) => save(context, inputs, state),

  async mark(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    await withClusterLock(lxd, async () => {
      const live = await readServerConfig(lxd, await getServers(lxd), []);
      const own = recordsIn(live).find(({ at }) => at === recordAt(context.claim));
      if (own !== undefined && own.mark !== context.mark) {
        await setServerConfig(lxd, toConfig([{ ...own, mark: context.mark }]));
      }
    });
  },

  async delete(context, _id, state) {
    const lxd = await context.lxd(state.cluster);
    await withClusterLock(lxd, async () => {
      const servers = await getServers(lxd);
      const { gone, present } = membersOf(servers, state.former);
      const live = await readServerConfig(lxd, servers, present);
      refuseOffline(live, present, "Its former values cannot be restored");
      const { restored } = claimKeys(NO_VALUES, state.former, live, { ...claimantOf(context, lxd), adopt: false });
      const entries = entriesOf(restored).filter(({ member }) => !gone.includes(member));
      for (const entry of entriesOf(state.former).filter((each) => valueAt(restored, each) === undefined)) {
        const other = markOfOther(valuesOf([entry]), live, context) ?? "";
        context.warn(`${pathOf(entry)} on ${lxd.host} stays as it is: it now belongs to ${describeOwner(other)}`);
      }
      warnOfUnreadable(context, entries);
      const own = recordsIn(live).filter(({ at }) => at === recordAt(context.claim));
      const ended = toConfig(own.map((record) => ({ ...record, former: NO_VALUES })));
      await writeMembers(lxd, servers, changing(valuesOf(entries), live));
      await write(lxd, { ...changing(valuesOf(entries), live).config, ...ended });
    });
  },
};

/** The managed keys, with their former values. An object that is not in state yet has only its inputs. */
function formerIn(state: Inputs & Partial<Outputs>): ServerValues {
  return state.former ?? state;
}

/** Writes the wanted values, and restores those of keys that are no longer wanted. */
async function save(context: Context, inputs: Inputs, state: State | undefined): Promise<Outputs> {
  const lxd = await context.lxd(inputs.cluster);
  return withClusterLock(lxd, async () => {
    const servers = await getServers(lxd);
    const { unknown, gone, present, all } = membersOf(servers, inputs, state?.former);
    if (unknown.length > 0) {
      throw new RefusedError(
        `memberConfig names ${unknown.join(", ")}, which the cluster of ${lxd.host} does not have (its members are ${all.join(", ")})`,
      );
    }
    const [wrong] = await wrongScopes(lxd, inputs);
    if (wrong !== undefined) {
      throw new RefusedError(`${wrong}. Nothing was changed`);
    }
    const live = await readServerConfig(lxd, servers, present);
    const claims = claimKeys(inputs, state?.former, live, { ...claimantOf(context, lxd), adopt: inputs.adopt });
    const restored = entriesOf(claims.restored).filter(({ member }) => !gone.includes(member));
    const written = changing(valuesOf([...restored, ...changedEntries(inputs, state, live)]), live);
    refuseOffline(live, Object.keys(written.memberConfig), "Its values cannot be written");
    warnOfUnreadable(context, restored);

    const recordOf = (former: ServerValues): ServerRecord => ({ at: recordAt(context.claim), mark: context.mark, former });
    const meanwhile = valuesOf([...restored.filter(({ member }) => member !== ""), ...entriesOf(claims.former)]);
    const before = live.get("") ?? {};
    await write(lxd, { ...written.config, ...differing(toConfig([...claims.others, recordOf(meanwhile)]), before) });
    const known: Outputs = { former: meanwhile, reported: state?.reported ?? NO_VALUES };
    try {
      await writeMembers(lxd, servers, written);
      const now = await readServerConfig(lxd, servers, present);
      await write(lxd, differing(toConfig([recordOf(claims.former)]), now.get("") ?? {}));
      return { former: claims.former, reported: reportedOf(inputs, now, state) };
    } catch (error) {
      throw new IncompleteError("server-config", known, messageOf(error), { cause: error });
    }
  });
}

function claimantOf({ urn, claim }: Context, { host }: LxdClient): { urn: string; claim: string | undefined; host: string } {
  return { urn, claim, host };
}

/** The members that values name: those of the cluster, those that were in it, and those that never were. */
function membersOf({ members }: Servers, { memberConfig }: ServerValues, state?: ServerValues) {
  const all = members.map(({ server_name }) => server_name);
  const named = [...new Set([...Object.keys(memberConfig), ...Object.keys(state?.memberConfig ?? {})])];
  const missing = named.filter((name) => !all.includes(name));
  return {
    all,
    present: named.filter((name) => all.includes(name)),
    gone: missing,
    unknown: missing.filter((name) => name in memberConfig),
  };
}

/** Why keys are at the wrong place, from the server's own metadata. */
async function wrongScopes(lxd: LxdClient, inputs: ServerValues): Promise<string[]> {
  const scopeOf = await serverKeyScopes(lxd);
  return entriesOf(inputs).flatMap((entry) => {
    const scope = scopeOf(entry.key);
    if (scope === undefined || (scope === "local") === (entry.member !== "")) {
      return [];
    }
    const right =
      scope === "local"
        ? "has a value for each member; set it in memberConfig"
        : "has one value for all members; set it in config";
    return [`${pathOf(entry)} ${right}`];
  });
}

function refuseOffline(live: LiveServerConfig, needed: readonly string[], effect: string): void {
  const offline = needed.find((member) => !live.has(member));
  if (offline !== undefined) {
    throw new RefusedError(
      `Member "${offline}" is offline. ${effect} until it answers. Nothing was changed. Bring it back, or remove it`,
    );
  }
}

/** The wanted values that are not known to be written: what a server does not tell is written when the program changes it. */
function changedEntries(inputs: Inputs, state: State | undefined, live: LiveServerConfig): ServerValue[] {
  return entriesOf(inputs).filter((entry) => {
    const now = liveAt(live, entry);
    const isKnown = valueAt(state, entry) === entry.value;
    return !isKnown || (now !== undefined && now !== (valueAt(state?.reported, entry) ?? entry.value));
  });
}

/** The values that differ from the live ones. */
function changing(values: ServerValues, live: LiveServerConfig): ServerValues {
  const toWrite = entriesOf(values).map((each) => (each.value === UNRECORDED ? { ...each, value: "" } : each));
  return valuesOf(toWrite.filter((each) => liveAt(live, each) !== each.value));
}

function differing(config: Config, live: Config): Config {
  return Object.fromEntries(Object.entries(config).filter(([key, value]) => (live[key] ?? "") !== value));
}

async function write(lxd: LxdClient, config: Config): Promise<void> {
  if (Object.keys(config).length > 0) {
    await setServerConfig(lxd, config);
  }
}

async function writeMembers(lxd: LxdClient, { clustered }: Servers, { memberConfig }: ServerValues): Promise<void> {
  for (const [member, config] of Object.entries(memberConfig)) {
    await setServerConfig(lxd, config, clustered ? member : undefined);
  }
}

function warnOfUnreadable(context: Context, restored: readonly ServerValue[]): void {
  for (const entry of restored.filter(({ value }) => value === UNRECORDED)) {
    context.warn(`${pathOf(entry)} is no longer managed: ${describeFormer(entry)}`);
  }
}

function reportedOf(inputs: Inputs, live: LiveServerConfig, state: State | undefined): ServerValues {
  const told = (entry: ServerValue): string => liveAt(live, entry) ?? valueAt(state?.reported, entry) ?? entry.value;
  const others = entriesOf(inputs).map((entry) => ({ ...entry, value: told(entry), wanted: entry.value }));
  return valuesOf(others.filter(({ value, wanted }) => value !== wanted));
}

/** The present value in the program's spelling, where the server tells the same as after it was written. */
function observed(entry: ServerValue, live: LiveServerConfig, { members }: Servers, reported: ServerValues): string {
  const now = liveAt(live, entry);
  if (now === undefined) {
    // A member that does not answer is taken to be unchanged. One that left has no values.
    return members.some(({ server_name }) => server_name === entry.member) ? entry.value : "";
  }
  return now === valueAt(reported, entry) || sameConfigValue(entry.key, now, entry.value) ? entry.value : now;
}

/** The present values without those that are not set, unless the program wants that, and without secrets of others. */
function shown(known: Config, present: Config): Config {
  const unset = Object.fromEntries(Object.entries(known).filter(([key, value]) => value === "" && present[key] === ""));
  return { ...unset, ...forState(known, present) };
}

/** Whether two maps give the same keys the same values. A key that must be unset is not one that is not managed. */
function sameKeys(a: Config = {}, b: Config = {}): boolean {
  return sameConfig(a, b) && Object.keys({ ...a, ...b }).every((key) => key in a === key in b);
}

function sameKeysOfMembers(a: Inputs["memberConfig"] = {}, b: Inputs["memberConfig"] = {}): boolean {
  return Object.keys({ ...a, ...b }).every((member) => sameKeys(a[member], b[member]));
}

/**
 * Keys of the config of a cluster, or of a standalone server. Manages the given keys and no others. When a key is removed from the program, or the
 * resource is deleted, its former value is restored; a key that was not set is unset.
 *
 * Several resources may manage different keys of one cluster.
 *
 * @example
 * ```typescript
 * new LxdServerConfig("settings", {
 *   cluster,
 *   config: { "cluster.offline_threshold": 30, "images.auto_update_interval": 24 },
 *   memberConfig: { bcn1: { "core.debug_address": "127.0.0.1:8444" } },
 * });
 * ```
 */
export class LxdServerConfig extends LxdResource {
  /** The managed keys of the whole cluster. */
  declare readonly config: Output<Record<string, string>>;
  /** The managed keys of each member. */
  declare readonly memberConfig: Output<Record<string, Record<string, string>>>;

  constructor(name: string, args: LxdServerConfigArgs, opts?: CustomResourceOptions) {
    // Former values may be secret.
    super(
      "LxdServerConfig",
      name,
      { ...args },
      ["former", "reported"],
      mergeOptions(opts, { additionalSecretOutputs: ["former", "reported"] }),
    );
  }
}
