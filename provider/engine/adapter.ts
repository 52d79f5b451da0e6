import { LxdClient } from "../lxd/client/client";
import { clusterEndpoint } from "../lxd/client/cluster-endpoint";
import { explainTakeover, takenOverBy } from "../lxd/ownership";
import { Deadline } from "../support/deadline";
import { withoutUndefined } from "../support/equality";
import { hasCode, type IncompleteError, messageOf, RefusedError } from "../support/errors";
import { redact, redactor } from "../support/redact";
import { type Connection, describeConnection } from "../transport/connection";
import { connect } from "../transport/pool";
import { describeAdoption, describeChanges } from "./adoption";
import { type Bookkeeping, bookkeepingChanged, notReachedAsStored } from "./bookkeeping";
import { checkProperties } from "./check";
import { atMost } from "./input-limits";
import { carriedOver, type LastingOutputs, lastingOutputs } from "./lasting-outputs";
import type { CheckFailure, Context, Lifecycle } from "./lifecycle";
import { type EngineLog, engineLog } from "./progress";
import { containsUnknown } from "./unknowns";

type Properties = Record<string, unknown>;

type Call = "create" | "read" | "update" | "delete";

/** How long a call that has passed its deadline may take to say what it was waiting for, before it is given up. */
const LAST_WORDS_SECONDS = 5;

/** How long a preview looks at an object that is to be adopted. */
const SURVEY_SECONDS = 10;

/** What the adapter keeps in state besides a lifecycle's inputs and outputs. */
interface Kept {
  schemaVersion: number;
  /** Why the object is not yet as wanted; absent when it is. The engine's own mark for this is cleared by a refresh. */
  unfinished?: string;
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

  const lasting: LastingOutputs = lifecycle.lasting ?? {};

  /** The inputs, without outputs that `check` has carried over. */
  const inputsIn = (properties: Properties): Inputs =>
    Object.fromEntries(Object.entries(properties).filter(([name]) => Object.hasOwn(lifecycle.schema.shape, name))) as Inputs;

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

  const stateOf = (inputs: Inputs, outputs: Outputs, unfinished?: string): Properties =>
    withoutUndefined({ ...inputs, ...outputs, schemaVersion: lifecycle.schemaVersion, unfinished }) as Properties;

  /** Whether this process has begun to change objects. Then it is no preview. */
  let changing = false;

  /** Runs one call with its deadline; what goes wrong is told without secrets. */
  const call = async <Result>(
    name: Call,
    properties: Properties,
    work: (context: Context) => Promise<Result>,
    known = properties,
  ): Promise<Result> => {
    changing ||= name !== "read";
    const { timeouts } = properties as Bookkeeping;
    const urn = urnOf(properties);
    const deadline = new Deadline(timeouts?.[name] ?? lifecycle.timeouts[name], `${lifecycle.kind} ${name}`);
    const patient = name !== "read";
    const notReached = (error: unknown): never => {
      throw "schemaVersion" in properties ? notReachedAsStored(error) : error; // inputs have no version, only state has
    };
    const safe = redactor([properties, known]);
    let doing: string | undefined;
    const context: Context = {
      deadline,
      urn,
      formerUrn: urnOf(known),
      progress: (text) => {
        doing = text;
        log.progress(urn, safe(text));
      },
      warn: (text) => log.warn(urn, safe(text)),
      host: (connection) => {
        warnOfUnverifiedHosts([connection], context);
        return connect(connection, { deadline, patient }).catch(notReached);
      },
      lxd: async (at) => {
        const endpoints = "endpoints" in at ? at.endpoints : [at];
        warnOfUnverifiedHosts(endpoints, context);
        return new LxdClient(await clusterEndpoint(endpoints, { deadline, patient }).catch(notReached), deadline);
      },
    };
    try {
      return await deadline.enforce(work(context), LAST_WORDS_SECONDS, () => doing ?? "nothing was reported");
    } catch (error) {
      throw redacted(error, safe);
    } finally {
      if (doing !== undefined) {
        log.progress(urn, ""); // what was shown is over
      }
    }
  };

  /** For `create` and `update`: an object that exists but is unfinished is kept in state, with the reason. */
  const keepUnfinished = async (properties: Properties, inputs: Inputs, work: () => Promise<Properties>): Promise<Properties> => {
    try {
      return await work();
    } catch (error) {
      if (!hasCode(error, "incomplete")) {
        throw error;
      }
      const incomplete = error as unknown as IncompleteError<Outputs>;
      const reason = redact(incomplete.message, properties);
      throw Object.assign(new Error(reason), {
        id: incomplete.id,
        properties: { ...stateOf(inputs, incomplete.outputs, reason), ...internal(properties) },
        reasons: [reason],
      });
    }
  };

  /**
   * Tells in a preview what adopting an object would change. The engine calls nothing else than `check` for what it plans to create.
   * A courtesy: when it cannot be told in time, everything goes on.
   */
  const foretellAdoption = async (inputs: Inputs, internals: Properties): Promise<void> => {
    const sought = lifecycle.sought?.(inputs);
    const known = { ...inputs, ...internals, timeouts: { read: SURVEY_SECONDS } };
    const urn = urnOf(known);
    if (changing || sought === undefined || !("adopt" in inputs && inputs.adopt === true)) {
      return;
    }
    try {
      const seen = await call("read", known, (context) =>
        lifecycle.read(context, "", { ...inputs, ...sought } as Inputs & Outputs),
      );
      if (seen === undefined) {
        return;
      }
      const state = { ...seen.inputs, ...seen.outputs };
      const changed = lifecycle.diff(state, inputs);
      const isOwn = seen.mark !== undefined && seen.mark !== "" && seen.mark === urn;
      if (changed.length > 0 || !isOwn) {
        const text = describeAdoption(isOwn ? "" : seen.mark, describeChanges(changed, state, inputs));
        log.info(urn, redact(text, known));
      }
      for (const warning of changed.length > 0 ? (lifecycle.forewarn?.(state, inputs) ?? []) : []) {
        log.warn(urn, redact(warning, known));
      }
    } catch (error) {
      log.warn(urn, redact(`What adopting it would change is not known: ${messageOf(error)}`, known));
    }
  };

  return {
    async check(olds: Properties, news: Properties) {
      const { inputs, failures, complete } = checkProperties(lifecycle.schema, external(news));
      if (complete) {
        failures.push(...(lifecycle.checkTogether?.(inputs as Inputs) ?? []));
      }
      if (complete && failures.length === 0 && Object.keys(olds).length === 0) {
        await foretellAdoption(inputs as Inputs, internal(news));
      }
      const safe = redactor(news);
      return {
        inputs: { ...carriedOver(lasting, olds, inputs), ...inputs, ...internal(news) },
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
      const changed: string[] = [...new Set([...lifecycle.diff(state, assumed), ...unknown])];
      const replaces = changed.filter((name) => (lifecycle.immutable as readonly string[]).includes(name));
      for (const warning of changed.length > 0 ? (lifecycle.forewarn?.(state, assumed) ?? []) : []) {
        log.warn(urnOf(news), redact(warning, news));
      }
      if (state.unfinished !== undefined) {
        log.warn(urnOf(news), redact(state.unfinished, news)); // or nobody would know why there is an update
      }
      const changes = changed.length > 0 || state.unfinished !== undefined || bookkeepingChanged(state as Bookkeeping, assumed);
      return { changes, replaces, deleteBeforeReplace: replaces.length > 0 };
    },

    async create(properties: Properties) {
      const inputs = inputsIn(properties);
      let id = "";
      const outs = await call("create", properties, (context) =>
        keepUnfinished(properties, inputs, async () => {
          const created = await lifecycle.create(context, inputs);
          id = created.id;
          return stateOf(inputs, created.outputs);
        }),
      );
      return { id, outs: { ...outs, ...internal(properties) } };
    },

    async read(id: string, properties?: Properties) {
      const known = properties ?? {};
      const state = stateIn(known);
      const seen = await call("read", known, (context) => lifecycle.read(context, id, state));
      if (seen === undefined) {
        return { id: "", props: {} };
      }
      const urn = urnOf(known);
      const other = takenOverBy(seen.mark, { urn, formerUrn: urn });
      if (other !== undefined) {
        log.warn(urn, `${lifecycle.kind} ${id}: ${explainTakeover(other)}`);
      }
      return {
        id,
        props: { ...stateOf(seen.inputs, seen.outputs, state.unfinished), ...internal(known) },
        inputs: {
          ...(state.unfinished === undefined ? lastingOutputs(lasting, seen.outputs as Properties) : {}),
          ...(withoutUndefined(seen.inputs) as Properties),
          ...internal(known),
        },
      };
    },

    async update(id: string, olds: Properties, news: Properties) {
      const state = stateIn(olds);
      const inputs = inputsIn(news);
      if (state.unfinished === undefined && lifecycle.diff(state, inputs).length === 0) {
        // Only how it is reached has changed: nothing is done to the object. An input that is no longer given leaves the state.
        const outputs = Object.fromEntries(
          Object.entries(state).filter(([name]) => !Object.hasOwn(lifecycle.schema.shape, name)),
        );
        // The mark on the object is as it was, so the URN that state knows is, too.
        const urn = olds["__urn"] === undefined ? {} : { __urn: olds["__urn"] };
        return { outs: { ...stateOf(inputs, outputs as Outputs), ...internal(news), ...urn } };
      }
      const outs = await call(
        "update",
        news,
        (context) =>
          keepUnfinished(news, inputs, async () => stateOf(inputs, await lifecycle.update(context, id, state, inputs))),
        olds,
      );
      return { outs: { ...outs, ...internal(news) } };
    },

    async delete(id: string, properties: Properties) {
      const state = stateIn(properties);
      await call("delete", properties, (context) => lifecycle.delete(context, id, state));
    },
  };
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
  return Object.fromEntries(Object.entries(properties).filter(([name]) => !INTERNAL.has(name)));
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
