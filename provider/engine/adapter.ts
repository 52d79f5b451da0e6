import { LxdClient } from "../lxd/client/client";
import { clusterEndpoint } from "../lxd/client/cluster-endpoint";
import { endpointOf } from "../lxd/client/endpoint";
import { describeOwner, explainTakeover, isUnfinishedWork, newClaim, takenOverBy, writeMark } from "../lxd/ownership";
import { Deadline } from "../support/deadline";
import { sameJson, withoutUndefined } from "../support/equality";
import { hasCode, IncompleteError, messageOf, RefusedError } from "../support/errors";
import { redact, redactor } from "../support/redact";
import { type Connection, describeConnection } from "../transport/connection";
import { connect } from "../transport/pool";
import { describeAdoption, describeChanges } from "./adoption";
import { checkProperties } from "./check";
import {
  CONNECTION_INPUTS,
  type ConnectionInputs,
  clusterFingerprintIn,
  connectionInputsChanged,
  hasFewerPeers,
  notReachedAsStored,
} from "./connection-inputs";
import { differences } from "./differences";
import { atMost } from "./input-limits";
import type { CheckFailure, Context, Lifecycle } from "./lifecycle";
import { type EngineLog, engineLog } from "./progress";
import { carryStableOutputs, type StableOutputs, stableOutputsIn } from "./stable-outputs";
import { containsUnknown } from "./unknowns";

type Properties = Record<string, unknown>;

type Call = "create" | "read" | "update" | "delete";

/** How long a call that has passed its deadline may take to say what it was waiting for, before it is given up. */
const GRACE_SECONDS = 5;

/** How long a preview looks at an object that is to be adopted. */
const PREVIEW_LOOK_SECONDS = 10;

/** What the adapter keeps in state besides a lifecycle's inputs and outputs. */
interface Kept {
  schemaVersion: number;
  /** Why the object is not yet as wanted; absent when it is. The engine's own mark for this is cleared by a refresh. */
  unfinished?: string;
  /** See {@link ConnectionInputs}. */
  clusterFingerprint?: string;
}

/** What the SDK's dynamic provider calls: its `ResourceProvider`, with nothing left out and no `any`. */
export interface DynamicProvider {
  check(olds: Properties, news: Properties): Promise<{ inputs: Properties; failures: CheckFailure[] }>;
  diff(
    id: string,
    olds: Properties,
    news: Properties,
  ): Promise<{ changes: boolean; replaces: string[]; deleteBeforeReplace: boolean }>;
  create(properties: Properties): Promise<{ id: string; outs: Properties }>;
  read(id: string, properties?: Properties): Promise<{ id: string; props: Properties; inputs?: Properties }>;
  update(id: string, olds: Properties, news: Properties): Promise<{ outs: Properties }>;
  delete(id: string, properties: Properties): Promise<void>;
}

/** Makes a dynamic provider of a lifecycle: everything that has to do with Pulumi's protocol happens here. */
export function dynamicProvider<Inputs extends object, Outputs extends object>(
  lifecycle: Lifecycle<Inputs, Outputs>,
  log: EngineLog = engineLog(),
): DynamicProvider {
  type State = Inputs & Outputs & Kept;

  const lasting: StableOutputs = lifecycle.stableOutputs ?? {};

  /** The inputs, without outputs that `check` has carried over. */
  const inputsIn = (properties: Properties): Inputs =>
    Object.fromEntries(Object.entries(properties).filter(([name]) => Object.hasOwn(lifecycle.schema.shape, name))) as Inputs;

  /** Inputs as they are: what was observed, over what is known. */
  const observedInputs = (known: Properties, observed: Partial<Inputs>): Inputs => {
    const isLeft = (name: string): boolean =>
      known[name] === undefined && ((lifecycle.leftAsIs ?? []) as readonly string[]).includes(name);
    return { ...inputsIn(known), ...Object.fromEntries(Object.entries(observed).filter(([name]) => !isLeft(name))) };
  };

  /** What an engine's state holds, in today's shape. */
  const stateIn = (properties: Properties): State => {
    const state = external(properties);
    const { schemaVersion: written = 1 } = state as Partial<Kept>;
    if (written > lifecycle.schemaVersion) {
      const newer = new RefusedError(
        `The state of this ${lifecycle.kind} was written by a newer version of pulumi-lxd-cluster (its schema ${written}; this version ` +
          `knows ${lifecycle.schemaVersion}). Nothing was touched. Install that version again: npm install pulumi-lxd-cluster@latest`,
      );
      throw Object.assign(newer, SAID_BY_THE_ENGINE);
    }
    return (written < lifecycle.schemaVersion ? (lifecycle.upgrade?.(state, written) ?? state) : state) as State;
  };

  /** @param cluster - Which cluster it is, where the inputs do not say it. */
  const stateOf = (inputs: Inputs, outputs: Outputs, cluster: string | undefined, unfinished?: string): Properties => {
    const clusterFingerprint = (inputs as ConnectionInputs).cluster?.certificateFingerprint === undefined ? cluster : undefined;
    const kept = { schemaVersion: lifecycle.schemaVersion, unfinished, clusterFingerprint };
    return withoutUndefined({ ...inputs, ...outputs, ...kept }) as Properties;
  };

  /** Whether the object bears the mark of another URN than the resource has now: it was renamed, or moved to another stack or project. */
  const hasOtherUrn = (olds: Properties, news: Properties): boolean =>
    lifecycle.mark !== undefined && ![urnOf(olds), urnOf(news)].includes("") && urnOf(olds) !== urnOf(news);

  /** Whether this process has begun to change objects. Then it is no preview. */
  let changing = false;

  /** Runs one call with its deadline; what goes wrong is told without secrets. */
  const call = async <Result>(
    name: Call,
    properties: Properties,
    work: (context: Context, found: Found) => Promise<Result>,
    known = properties,
  ): Promise<Result> => {
    changing ||= name !== "read";
    const { timeouts } = properties as ConnectionInputs;
    const urn = urnOf(properties);
    const deadline = new Deadline(timeouts?.[name] ?? lifecycle.timeouts[name], `${lifecycle.kind} ${name}`);
    const patient = name !== "read";
    const notReached = (error: unknown): never => {
      throw "schemaVersion" in properties ? notReachedAsStored(error) : error; // inputs have no version, only state has
    };
    let doing: string | undefined;
    const found: Found = { cluster: clusterFingerprintIn(known), sent: [] };
    const told = {
      sending: (body: unknown): void => void found.sent.push(body),
      waiting: (text: string): void => context.progress(text),
    };
    const safe = (text: string): string => redact(text, [properties, known, found.sent]);
    const context: Context = {
      deadline,
      urn,
      formerUrn: urnOf(known),
      claim: claimOf(known),
      mark: writeMark({ urn, claim: claimOf(known), isCreating: name === "create" && !isToAdopt(properties) }),
      progress: (text) => {
        doing = text;
        log.progress(urn, safe(text));
      },
      warn: (text) => log.warn(urn, safe(text)),
      host: (connection) => {
        warnOfUnverifiedHosts([connection], context);
        return connect(connection, { deadline, patient }).catch(notReached);
      },
      lxd: async (at, within = deadline) => {
        if (!("endpoints" in at)) {
          warnOfUnverifiedHosts([at], context);
          const ssh = await connect(at, { deadline: within, patient }).catch(notReached);
          return new LxdClient(await endpointOf(ssh, within).catch(notReached), within, told);
        }
        warnOfUnverifiedHosts(at.endpoints, context);
        const options = { deadline: within, patient, warn: (text: string) => warnOnce(text, context) };
        const meant = { ...at, certificateFingerprint: at.certificateFingerprint ?? found.cluster };
        const { endpoint, fingerprint } = await clusterEndpoint(meant, options).catch(notReached);
        if (at.certificateFingerprint === undefined) {
          found.cluster ??= fingerprint;
        }
        return new LxdClient(endpoint, within, told);
      },
    };
    try {
      return await deadline.enforce(work(context, found), GRACE_SECONDS, () => doing ?? "nothing was reported");
    } catch (error) {
      throw redacted(error, safe);
    } finally {
      if (doing !== undefined) {
        log.progress(urn, ""); // what was shown is over
      }
    }
  };

  /** For `create` and `update`: an object that exists but is unfinished is kept in state, with the reason. */
  const keepUnfinished = async (
    properties: Properties,
    known: Properties,
    claimed: Properties,
    inputs: Inputs,
    found: Found,
    work: () => Promise<Properties>,
  ): Promise<Properties> => {
    try {
      return await work();
    } catch (error) {
      if (!hasCode(error, "incomplete")) {
        throw error;
      }
      const reason = redact(error.message, [properties, known, found.sent]); // LXD may quote what was there before
      throw Object.assign(new Error(reason), {
        id: error.id,
        properties: { ...stateOf(inputs, error.outputs as Outputs, found.cluster, reason), ...internal(properties), ...claimed },
        reasons: [reason],
      });
    }
  };

  /**
   * Tells in a preview what adopting an object would change. The engine calls nothing else than `check` for what it plans to create.
   * A courtesy: when it cannot be told in time, everything goes on.
   */
  const previewAdoption = async (inputs: Inputs, internals: Properties): Promise<void> => {
    const sought = lifecycle.lookupKeys?.(inputs);
    const known = { ...inputs, ...internals, timeouts: { read: PREVIEW_LOOK_SECONDS } };
    const urn = urnOf(known);
    if (changing || sought === undefined || !isToAdopt(known)) {
      return;
    }
    try {
      const seen = await call("read", known, (context) =>
        lifecycle.read(context, "", { ...inputs, ...sought } as Inputs & Outputs),
      );
      if (seen === undefined) {
        return;
      }
      const state = { ...observedInputs({ ...inputs } as Properties, seen.inputs), ...seen.outputs };
      const changed = differences(lifecycle, state, inputs);
      if (changed.length > 0 || !isUnfinishedWork(seen.mark, urn)) {
        const text = describeAdoption(seen.mark, urn, describeChanges(changed, state, inputs));
        log.info(urn, redact(text, [known, state]));
      }
      if (changed.length === 0) {
        return;
      }
      const foreseen = await call("read", known, async (context) => (await lifecycle.previewEffects?.(context, inputs)) ?? []);
      for (const warning of [...(lifecycle.previewWarnings?.(state, inputs) ?? []), ...foreseen]) {
        log.warn(urn, redact(warning, [known, state]));
      }
    } catch (error) {
      log.warn(urn, redact(`What adopting it would change is not known: ${messageOf(error)}`, known));
    }
  };

  /** Tells in a preview what the change of an object would do to others. A courtesy, too. */
  const previewChangeEffects = async (old: Inputs, inputs: Inputs, internals: Properties): Promise<void> => {
    // Another way to the object, which a rotated key gives to all of them, does nothing to it: no host is asked.
    // Which it is, only its inputs tell: the engine hands on no outputs to `check`.
    const isChanged = (name: keyof Inputs & string): boolean =>
      !CONNECTION_INPUTS.has(name) && !sameJson(old[name], inputs[name]);
    const names = Object.keys({ ...old, ...inputs }) as (keyof Inputs & string)[];
    if (changing || lifecycle.previewEffects === undefined || !(names.some(isChanged) || hasFewerPeers(old, inputs))) {
      return;
    }
    const known = { ...inputs, ...internals, timeouts: { read: PREVIEW_LOOK_SECONDS } };
    const urn = urnOf(known);
    try {
      const warnings = await call(
        "read",
        known,
        async (context) => (await lifecycle.previewEffects?.(context, inputs, old)) ?? [],
      );
      for (const warning of warnings) {
        log.warn(urn, redact(warning, [known, old]));
      }
    } catch (error) {
      log.warn(urn, redact(`What the change does to others is not known: ${messageOf(error)}`, [known, old]));
    }
  };

  return {
    async check(olds: Properties, news: Properties) {
      const { inputs, failures, complete } = checkProperties(lifecycle.schema, external(news));
      if (complete) {
        failures.push(...(lifecycle.checkTogether?.(inputs as Inputs) ?? []));
      }
      if (complete && failures.length === 0) {
        await (Object.keys(olds).length === 0
          ? previewAdoption(inputs as Inputs, internal(news))
          : previewChangeEffects(inputsIn(olds), inputs as Inputs, internal(news)));
      }
      const safe = redactor([olds, news]);
      return {
        inputs: { ...(failures.length > 0 ? {} : carryStableOutputs(lasting, olds, inputs)), ...inputs, ...internal(news) },
        // With a property the engine would print that property's value too, and for a nested one "<nil>".
        failures: failures.map(({ property, reason }) => ({
          property: "",
          reason: `${atMost(200, safe(property))} ${atMost(1000, safe(reason))}`,
        })),
      };
    },

    async diff(_id: string, olds: Properties, news: Properties) {
      const state = stateIn(olds);
      const wanted = inputsIn(news);
      const unknown = Object.keys(wanted).filter((name) => containsUnknown(wanted[name as keyof Inputs]));
      // What is unknown may change; judge the rest as if it did not.
      const assumed = { ...wanted, ...Object.fromEntries(unknown.map((name) => [name, state[name as keyof State]])) } as Inputs;
      const changed: string[] = [...new Set([...differences(lifecycle, state, assumed), ...unknown])];
      const replaces = changed.filter((name) => (lifecycle.immutable as readonly string[]).includes(name));
      for (const warning of changed.length > 0 ? (lifecycle.previewWarnings?.(state, assumed) ?? []) : []) {
        log.warn(urnOf(news), redact(warning, [olds, news]));
      }
      if (replaces.length > 0 && lifecycle.replacementLoss !== undefined) {
        const why = `${replaces.join(", ")} ${replaces.every((name) => unknown.includes(name)) ? "may change" : "changes"}`;
        log.warn(urnOf(news), redact(`This is a replacement, because ${why}. ${lifecycle.replacementLoss(state)}`, news));
      }
      if (state.unfinished !== undefined) {
        log.warn(urnOf(news), redact(state.unfinished, [olds, news])); // or nobody would know why there is an update
      }
      for (const reminder of lifecycle.standingWarnings?.(state, assumed) ?? []) {
        log.warn(urnOf(news), redact(reminder, [olds, news]));
      }
      const isRenamed = hasOtherUrn(olds, news);
      if (isRenamed && changed.length === 0 && state.unfinished === undefined) {
        log.info(urnOf(news), `Only its mark on LXD changes: it was that of ${describeOwner(urnOf(olds))}`);
      }
      const changes =
        changed.length > 0 || state.unfinished !== undefined || isRenamed || connectionInputsChanged(state, assumed);
      return { changes, replaces, deleteBeforeReplace: replaces.length > 0 };
    },

    async create(properties: Properties) {
      const inputs = inputsIn(properties);
      const claimed = lifecycle.mark === undefined ? {} : { __claim: newClaim() };
      let id = "";
      const work = async (context: Context, found: Found): Promise<Properties> => {
        const created = await lifecycle.create(context, inputs);
        id = created.id;
        const mark = writeMark({ urn: context.urn, claim: context.claim, isCreating: false });
        try {
          await (context.mark === mark
            ? undefined
            : lifecycle.mark?.({ ...context, mark }, id, { ...inputs, ...created.outputs }));
        } catch (error) {
          throw hasCode(error, "incomplete")
            ? error
            : new IncompleteError(id, created.outputs, messageOf(error), { cause: error });
        }
        return stateOf(inputs, created.outputs, found.cluster);
      };
      const outs = await call(
        "create",
        properties,
        (context, found) => keepUnfinished(properties, {}, claimed, inputs, found, () => work(context, found)),
        { ...properties, ...claimed },
      );
      return { id, outs: { ...outs, ...internal(properties), ...claimed } };
    },

    async read(id: string, properties?: Properties) {
      const known = properties ?? {};
      const state = stateIn(known);
      const { seen, cluster } = await call("read", known, async (context, found) => ({
        seen: await lifecycle.read(context, id, state),
        cluster: found.cluster,
      }));
      if (seen === undefined) {
        return { id: "", props: {} };
      }
      const inputs = observedInputs(state as Properties, seen.inputs);
      const urn = urnOf(known);
      const claimed = claimIn(known);
      const other = takenOverBy(seen.mark, { urn, formerUrn: urn, claim: claimOf(known) });
      if (other !== undefined) {
        log.warn(urn, `${lifecycle.kind} ${id}: ${explainTakeover(other)}`);
      }
      return {
        id,
        props: { ...stateOf(inputs, seen.outputs, cluster, state.unfinished), ...internal(known), ...claimed },
        inputs: {
          ...(state.unfinished === undefined ? stableOutputsIn(lasting, seen.outputs as Properties) : {}),
          ...(withoutUndefined(inputs) as Properties),
          ...internal(known),
        },
      };
    },

    async update(id: string, olds: Properties, news: Properties) {
      const state = stateIn(olds);
      const inputs = inputsIn(news);
      const claimed = claimIn(olds);
      const work = async (context: Context, found: Found): Promise<Properties> => {
        if (state.unfinished !== undefined || differences(lifecycle, state, inputs).length > 0) {
          return stateOf(inputs, await lifecycle.update(context, id, state, inputs), found.cluster);
        }
        // Nothing is done to the object but for its mark. What says how it is reached leaves the state when it is no longer given; all else
        // means the same, and an output may have the name of an input that was never given.
        const outputs = Object.fromEntries(Object.entries(state).filter(([name]) => !CONNECTION_INPUTS.has(name))) as Outputs;
        if (hasOtherUrn(olds, news)) {
          await lifecycle.mark?.(context, id, { ...inputs, ...outputs });
        }
        return stateOf(inputs, outputs, found.cluster ?? clusterFingerprintIn(state));
      };
      const outs = await call(
        "update",
        news,
        (context, found) => keepUnfinished(news, olds, claimed, inputs, found, () => work(context, found)),
        olds,
      );
      return { outs: { ...outs, ...internal(news), ...claimed } };
    },

    async delete(id: string, properties: Properties) {
      const state = stateIn(properties);
      await call("delete", properties, (context) => lifecycle.delete(context, id, state));
    },
  };
}

/** What a call has found out. */
interface Found {
  /** Which cluster the object is on. */
  cluster: string | undefined;
  /** The bodies that were sent to LXD. They also hold what others have set on the object, and no state knows. */
  readonly sent: unknown[];
}

const warned = new Set<string>();

/** Says something once in this process, however many objects come upon it. */
function warnOnce(text: string, context: Context): void {
  if (!warned.has(text)) {
    warned.add(text);
    context.warn(text);
  }
}

const unverified = new Set<string>();

/** Says once in this process which hosts are taken for who they say they are. */
function warnOfUnverifiedHosts(connections: readonly Connection[], context: Context): void {
  for (const connection of connections) {
    const name = describeConnection(connection);
    if (connection.hostKeyPolicy === "insecure" && connection.hostKey === undefined && !unverified.has(name)) {
      unverified.add(name);
      context.warn(`The host key of ${name} is not verified (hostKeyPolicy: "insecure")`);
    }
  }
}

/** What is between the class, this adapter and the engine. */
const INTERNAL: ReadonlySet<string> = new Set(["__provider", "__urn"]);

function external(properties: Properties): Properties {
  return Object.fromEntries(Object.entries(properties).filter(([name]) => !INTERNAL.has(name) && name !== "__claim"));
}

/** Whether what is there is taken in any case: then it need not be told whether an earlier create has ended. */
function isToAdopt({ adopt }: Properties): boolean {
  return adopt === true;
}

/** The claim that state keeps, under a name that the engine does not show. */
function claimOf({ __claim }: Properties): string | undefined {
  return typeof __claim === "string" ? __claim : undefined;
}

/** {@link claimOf}, as a part of state. */
function claimIn(properties: Properties): Properties {
  const claim = claimOf(properties);
  return claim === undefined ? {} : { __claim: claim };
}

/** The URN that the class handed on; empty while it is not known. */
function urnOf({ __urn }: Properties): string {
  return typeof __urn === "string" && !containsUnknown(__urn) ? __urn : "";
}

function internal(properties: Properties): Properties {
  return Object.fromEntries(Object.entries(properties).filter(([name]) => INTERNAL.has(name)));
}

/** An error as the engine prints it: the message alone, and no secret in it. */
function redacted(error: unknown, safe: (text: string) => string): unknown {
  if (error instanceof Error) {
    error.message = safe(messageOf(error));
    if (hasCode(error, "incomplete")) {
      return error;
    }
    return Object.assign(error, SAID_BY_THE_ENGINE);
  }
  return error;
}

/** The SDK prints `${error}: ${error.stack}` for a failed read or delete, and then the engine prints its message, with the resource. */
const SAID_BY_THE_ENGINE = { stack: "", toString: () => "" };

/** Keeps the SDK's own print of our errors from the screen. For the provider process. */
export function printErrorsOnce(target: Pick<Console, "error"> = console): void {
  const print = target.error.bind(target);
  target.error = (...data: unknown[]) => {
    if (data.length !== 1 || data[0] !== ": ") {
      print(...data);
    }
  };
}
