/**
 * snapd on a simulated host, behind `/run/snapd.socket`. Its answers were read from snapd 2.57.6, 2.68.3 and 2.77.1.
 */
import { Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { FaultEffect } from "./faults";
import type { Surroundings } from "./lxd/database";
import type { RequestRecord } from "./lxd/surroundings";
import type { Machine } from "./machine";
import { removeThroughMounts } from "./programs/mounts";
import type { SnapStore, StoredSnap } from "./snap-store";

/** Where it listens. */
export const SNAPD_SOCKET = "/run/snapd.socket";

/** A snap on a host. */
export interface InstalledSnap {
  /** The channel it follows; empty for one that was installed from a file. */
  channel: string;
  held: boolean;
  version: string;
  /** A number, or `x1` and so on for one that was installed from a file. */
  revision: string;
  /** False once it has left its cohort. */
  cohort?: boolean;
  /** What `snap set` has set. */
  config?: Record<string, unknown>;
  /** When it is not given, those that snapd makes by itself. */
  connections?: SnapConnection[];
}

/** Of a plug, such as "lxd:ceph-conf", to a slot. */
export interface SnapConnection {
  plug: { snap: string; plug: string };
  slot: { snap: string; slot: string };
  /** Made by a person, not by snapd when the snap was installed. */
  manual?: boolean;
}

/** What snapd connects when it installs LXD. */
function automaticConnections(): SnapConnection[] {
  return ["lxd-support", "network-bind"].map((name) => ({
    plug: { snap: "lxd", plug: name },
    slot: { snap: "snapd", slot: name },
  }));
}

/** What snapd does to the host. */
export interface SnapdHost extends Machine {
  readonly store: SnapStore;
  readonly snaps: ReadonlyMap<string, InstalledSnap>;
  putSnap(name: string, channel: string, snap: StoredSnap): void;
  removeSnap(name: string): void;
  controlUnit(action: "start" | "stop" | "restart", unit: string): void;
}

interface Task {
  kind: string;
  summary: string;
  status: string;
  progress: { label: string; done: number; total: number };
  log?: string[];
}

interface Change {
  id: string;
  kind: string;
  summary: string;
  status: string;
  ready: boolean;
  err?: string;
  tasks: Task[];
  data: { "snap-names": string[] };
}

/** An error of the API. */
class SnapdFault extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly kind?: string,
    readonly value?: unknown,
  ) {
    super(message);
  }
}

/** Of the change for something that takes no part of a snap away or brings one. */
const SIZE = 3_002_368;

/** A daemon. */
export class SimulatedSnapd {
  /** Whether it has set itself up since it was installed. */
  seeded = true;
  readonly changes: Change[] = [];
  private readonly http = new HttpServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 });
  private readonly drops = new WeakMap<object, () => void>();
  private last = 0;

  constructor(
    private readonly host: SnapdHost,
    private readonly surroundings: Surroundings,
    /** Such as "2.63". */
    readonly version: string,
  ) {
    this.http.on("request", (incoming, response) => {
      this.serve(incoming, response, this.drops.get(incoming.socket) ?? (() => incoming.socket.destroy())).catch(
        (error: unknown) => {
          if (error !== incoming.errored) {
            this.surroundings.defects.push(error);
          }
          incoming.socket.destroy();
        },
      );
    });
    this.http.on("clientError", (_error, socket) => socket.destroy());
  }

  /** Takes a connection. */
  attach(channel: Duplex, drop: () => void): void {
    this.drops.set(channel, drop);
    this.http.emit("connection", channel);
  }

  close(): void {
    this.http.closeAllConnections();
  }

  /** Begins an automatic refresh of a snap, which stays at work until the function that is returned is called. */
  refreshByItself(name: string): () => void {
    const change = this.newChange("auto-refresh", `Auto-refresh snap "${name}"`, name, [
      { kind: "download-snap", summary: `Download snap "${name}" from channel "stable"` },
    ]);
    for (const task of change.tasks) {
      task.status = "Doing";
      task.progress = { label: name, done: 750_592, total: SIZE };
    }
    change.status = "Doing";
    return () => this.end(change);
  }

  private async serve(incoming: IncomingMessage, response: ServerResponse, drop: () => void): Promise<void> {
    const url = new URL(incoming.url ?? "/", "http://snapd");
    const method = incoming.method ?? "GET";
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) {
      chunks.push(chunk as Buffer);
    }
    const path = url.pathname + url.search;
    const route = url.pathname
      .replace(/^(\/v2\/snaps)\/(?!system\/)[^/]+(\/conf)?$/, "$1/{name}$2")
      .replace(/^(\/v2\/changes)\/.+/, "$1/{id}");
    const record: RequestRecord = { host: this.host.name, method, path, route, mutating: method !== "GET" };
    this.surroundings.requests.push(record);
    const effect = this.surroundings.faults.forRequest({ host: this.host.name, method, path });
    if (effect === "hang") {
      return;
    }
    if (effect === "drop-before") {
      drop();
      return;
    }
    if (effect === "daemon-restart") {
      incoming.socket.destroy(); // what it does goes on when it is up again
      return;
    }
    if (typeof effect === "object" && "delayMs" in effect) {
      await new Promise((resolve) => setTimeout(resolve, effect.delayMs));
    }
    const [status, answer] = this.answer(effect, method, url, Buffer.concat(chunks).toString("utf8"));
    record.answer = { status };
    if (effect === "drop-after") {
      drop();
      return;
    }
    const text = JSON.stringify(answer);
    if (typeof effect === "object" && "answer" in effect) {
      effect.answer(response, text);
      return;
    }
    response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    response.end(text);
  }

  private answer(effect: FaultEffect | undefined, method: string, url: URL, body: string): [number, object] {
    try {
      if (typeof effect === "object" && "status" in effect) {
        throw new SnapdFault(effect.status, effect.error);
      }
      if (typeof effect === "object" && "quote" in effect) {
        throw new SnapdFault(400, effect.quote(body));
      }
      if (method === "GET") {
        return [200, { type: "sync", "status-code": 200, status: "OK", result: this.read(url) }];
      }
      const fails = effect === "fail-operation" || (typeof effect === "object" && "failOperation" in effect);
      const sent = JSON.parse(body) as Record<string, unknown>;
      const change = method === "PUT" ? this.configure(url.pathname, sent, fails) : this.act(url.pathname, sent, fails);
      return [202, { type: "async", "status-code": 202, status: "Accepted", result: null, change: change.id }];
    } catch (error) {
      if (!(error instanceof SnapdFault)) {
        throw error;
      }
      const { status, message, kind, value } = error;
      const result = { message, ...(kind === undefined ? {} : { kind }), ...(value === undefined ? {} : { value }) };
      return [status, { type: "error", "status-code": status, status: "Error", result }];
    }
  }

  private read(url: URL): unknown {
    const [, , noun = "", name = "", what] = url.pathname.split("/").map((part) => decodeURIComponent(part));
    if (noun === "system-info") {
      return { series: "16", version: this.version, "on-classic": true, managed: false, architecture: "amd64" };
    }
    if (noun === "snaps" && name === "system" && what === "conf") {
      if (!this.seeded) {
        throw new SnapdFault(400, 'snap "core" has no "seed.loaded" configuration option', "option-not-found", {
          SnapName: "core",
          Key: "seed.loaded",
        });
      }
      return { "seed.loaded": true };
    }
    if (noun === "snaps" && what === "conf") {
      return this.host.snaps.get(name)?.config ?? {}; // of a snap that is not there, too
    }
    if (noun === "connections") {
      return this.connectionsOf(url.searchParams.get("snap") ?? "");
    }
    if (noun === "snaps" && what === undefined) {
      return this.describe(name);
    }
    if (noun === "changes" && name === "") {
      const wanted = url.searchParams.get("for");
      const among = this.changes.filter(({ data }) => wanted === null || data["snap-names"].includes(wanted));
      return among.filter(({ ready }) => url.searchParams.get("select") === "all" || !ready);
    }
    if (noun === "changes") {
      const change = this.changes.find(({ id }) => id === name);
      if (change === undefined) {
        throw new SnapdFault(404, `cannot find change with id "${name}"`);
      }
      return change;
    }
    if (noun === "find") {
      this.requireStore();
      const wanted = url.searchParams.get("name") ?? "";
      if (wanted !== "lxd") {
        throw new SnapdFault(404, "snap not found", "snap-not-found", wanted);
      }
      const channels = new Map<string, object>();
      for (const [channel, { revision, version }] of this.host.store.channels) {
        channels.set(channel, { revision: String(revision), version, channel });
      }
      return [{ name: "lxd", channels: Object.fromEntries<object>(channels), tracks: ["latest", "6", "5.21", "5.0"] }];
    }
    throw new SnapdFault(404, "not found");
  }

  private describe(name: string): object {
    const snap = this.host.snaps.get(name);
    if (snap === undefined) {
      throw new SnapdFault(404, "snap not installed", "snap-not-found", name);
    }
    const tellsHold = this.knows("2.58.1");
    return {
      id: snap.revision.startsWith("x") ? "" : "J60k4JY0HppjwOjW8dZdYc8obXKxujRu",
      name,
      status: "active",
      type: "app",
      version: snap.version,
      channel: snap.channel.endsWith("/stable") ? "stable" : "",
      ...(snap.channel === "" ? {} : { "tracking-channel": snap.channel }),
      revision: snap.revision,
      ...(snap.cohort === false ? {} : { "cohort-key": "+" }),
      ...(snap.held && tellsHold ? { hold: "2319-03-10T09:30:45Z" } : {}),
    };
  }

  /** As 2.57.6 gives them, but for the lists of plugs and slots. */
  private connectionsOf(name: string): object {
    const connections = this.requireSnap(name).connections ?? automaticConnections();
    const established = connections.map(({ plug, slot, manual }) => ({
      ...{ slot, plug, interface: plug.plug },
      ...(manual === true ? { manual } : {}),
    }));
    return { established, plugs: [], slots: [] };
  }

  /** The configuration is patched: null takes an option away. The hook of LXD's snap takes every option. */
  private configure(path: string, values: Record<string, unknown>, fails: boolean): Change {
    const name = decodeURIComponent(path.replace("/v2/snaps/", "").replace(/\/conf$/, ""));
    const snap = this.host.snaps.get(name);
    if (snap === undefined) {
      throw new SnapdFault(404, `snap "${name}" is not installed`, "snap-not-found", name);
    }
    this.requireIdle(name);
    const change = this.newChange("configure-snap", `Change configuration of "${name}" snap`, name, [
      { kind: "run-hook", summary: `Run configure hook of "${name}" snap` },
    ]);
    return this.run(change, fails, () => {
      snap.config = patched(snap.config ?? {}, values);
    });
  }

  /** What is connected already is done. */
  private connect(body: Record<string, unknown>, fails: boolean): Change {
    const { plugs, slots } = body as { plugs: [SnapConnection["plug"]]; slots: [SnapConnection["slot"]] };
    const [[plug], [slot]] = [plugs, slots];
    const snap = this.requireSnap("lxd");
    this.requireIdle("lxd");
    const connections = (snap.connections ??= automaticConnections());
    const summary = `Connect ${plug.snap}:${plug.plug} to ${slot.snap}:${slot.slot}`;
    return this.run(this.newChange("connect-snap", summary, "lxd", [{ kind: "connect", summary }]), fails, () => {
      if (!connections.some((each) => each.plug.plug === plug.plug && each.slot.slot === slot.slot)) {
        connections.push({ plug, slot, manual: true });
      }
    });
  }

  private act(path: string, body: Record<string, unknown>, fails: boolean): Change {
    const action = String(body["action"]);
    if (path === "/v2/interfaces" && action === "connect") {
      return this.connect(body, fails);
    }
    if (path === "/v2/apps") {
      const [name = ""] = body["names"] as string[];
      this.requireSnap(name);
      const change = this.newChange("service-control", `Running service command`, name, [
        { kind: "service-control", summary: `Run service command "${action}" for services of snap "${name}"` },
      ]);
      return this.run(change, fails, () => this.host.controlUnit(action as "start", "snap.lxd.daemon.service"));
    }
    const name = decodeURIComponent(path.replace("/v2/snaps/", ""));
    const known = ["install", "refresh", "switch", "remove", ...(this.knows("2.58") ? ["hold", "unhold"] : [])];
    if (!path.startsWith("/v2/snaps/") || !known.includes(action)) {
      throw new SnapdFault(400, `unknown action ${action}`);
    }
    if (body["cohort-key"] !== undefined && body["revision"] !== undefined) {
      throw new SnapdFault(400, "cannot specify both cohort-key and revision");
    }
    this.requireIdle(name);
    if (action === "install") {
      return this.install(name, body, fails);
    }
    const snap = this.requireSnap(name);
    if (action === "refresh") {
      return this.refresh(name, snap, body, fails);
    }
    if (action === "remove") {
      return this.remove(name, fails);
    }
    const change = this.newChange(`${action}-snap`, `${action} snap "${name}"`, name, [
      { kind: action, summary: `${action} "${name}"` },
    ]);
    return this.run(change, fails, () => {
      if (action === "switch") {
        snap.channel = String(body["channel"]);
      } else {
        snap.held = action === "hold";
      }
    });
  }

  private install(name: string, body: Record<string, unknown>, fails: boolean): Change {
    if (this.host.snaps.has(name)) {
      throw new SnapdFault(400, `snap "${name}" is already installed`, "snap-already-installed", name);
    }
    this.requireStore();
    if (name !== "lxd") {
      throw new SnapdFault(404, `snap not found`, "snap-not-found", name);
    }
    const channel = textOf(body["channel"]) || "latest/stable";
    const found = this.stored("install", name, channel, body["revision"]);
    const change = this.newChange(
      "install-snap",
      `Install "${name}" snap from "${channel}" channel`,
      name,
      this.stepsOf(name, channel, found),
    );
    return this.run(change, fails, () => this.host.putSnap(name, channel, found));
  }

  private refresh(name: string, snap: InstalledSnap, body: Record<string, unknown>, fails: boolean): Change {
    this.requireStore();
    if (snap.revision.startsWith("x")) {
      throw new SnapdFault(400, "local snap", "snap-local", name);
    }
    const channel = textOf(body["channel"]) || snap.channel;
    const found = this.stored("refresh", name, channel, body["revision"]);
    const change = this.newChange(
      "refresh-snap",
      `Refresh "${name}" snap from "${channel}" channel`,
      name,
      this.stepsOf(name, channel, found),
    );
    return this.run(change, fails, () => this.host.putSnap(name, channel, found));
  }

  private remove(name: string, fails: boolean): Change {
    const change = this.newChange("remove-snap", `Remove "${name}" snap`, name, [
      { kind: "stop-snap-services", summary: `Stop snap "${name}" services` },
      { kind: "clear-snap", summary: `Remove data for snap "${name}"` },
    ]);
    return this.run(change, fails, () => {
      const data = `/var/snap/${name}`;
      if (this.host.mounts?.some(({ target }) => target.startsWith(`${data}/`)) === true) {
        removeThroughMounts(this.host, data); // as Go's RemoveAll does
      }
      this.host.removeSnap(name);
    });
  }

  private stored(action: string, name: string, channel: string, revision: unknown): StoredSnap {
    const { store } = this.host;
    if (revision !== undefined) {
      const found = store.upload(Number(revision));
      if (found === undefined) {
        throw new SnapdFault(404, "no snap revision available as specified", "snap-revision-not-available", name);
      }
      return found;
    }
    const found = store.in(channel);
    if (found === undefined) {
      const releases = [...store.channels.keys()].map((each) => ({ architecture: "amd64", channel: each }));
      const value = { action, architecture: "amd64", channel, releases, "snap-name": name };
      throw new SnapdFault(404, "no snap revision available as specified", "snap-channel-not-available", value);
    }
    return found;
  }

  private stepsOf(name: string, channel: string, { revision }: StoredSnap) {
    return [
      { kind: "download-snap", summary: `Download snap "${name}" (${revision}) from channel "${channel}"`, total: SIZE },
      { kind: "link-snap", summary: `Make snap "${name}" (${revision}) available to the system` },
    ];
  }

  private newChange(
    kind: string,
    summary: string,
    name: string,
    tasks: { kind: string; summary: string; total?: number }[],
  ): Change {
    this.last += 1;
    const change: Change = {
      id: String(this.last),
      kind,
      summary,
      status: "Do",
      ready: false,
      tasks: tasks.map(({ total = 1, ...task }) => ({ ...task, status: "Do", progress: { label: "", done: 0, total } })),
      data: { "snap-names": [name] },
    };
    this.changes.push(change);
    return change;
  }

  /** At once, unless things take time in this lab: a quarter of it for each quarter of a download. */
  private run(change: Change, fails: boolean, work: () => void): Change {
    const { installMs } = this.surroundings.timings;
    const finish = (): void => {
      try {
        if (fails) {
          throw new Error("simulated failure");
        }
        work();
        this.end(change);
      } catch (error) {
        this.end(change, error instanceof Error ? error.message : String(error));
      }
    };
    if (installMs === 0) {
      finish();
      return change;
    }
    const [first] = change.tasks;
    change.status = "Doing";
    const quarter = (number: number): void => {
      if (first !== undefined) {
        first.status = "Doing";
        first.progress.done = Math.floor((first.progress.total * number) / 4);
      }
      setTimeout(() => (number === 3 ? finish() : quarter(number + 1)), installMs / 4);
    };
    quarter(0);
    return change;
  }

  private end(change: Change, error?: string): void {
    change.ready = true;
    change.status = error === undefined ? "Done" : "Error";
    for (const task of change.tasks) {
      task.status = error === undefined ? "Done" : "Undone";
      task.progress.done = task.progress.total;
    }
    const last = change.tasks.at(-1);
    if (error !== undefined && last !== undefined) {
      last.status = "Error";
      last.log = [`2026-01-01T00:00:00Z ERROR ${error}`];
      change.err = `cannot perform the following tasks:\n- ${last.summary} (${error})`;
    }
  }

  private requireIdle(name: string): void {
    const busy = this.changes.find(({ ready, data }) => !ready && data["snap-names"].includes(name));
    if (busy !== undefined) {
      const value = { "change-kind": busy.kind, "snap-name": name };
      throw new SnapdFault(409, `snap "${name}" has "${busy.kind}" change in progress`, "snap-change-conflict", value);
    }
  }

  private requireSnap(name: string): InstalledSnap {
    const snap = this.host.snaps.get(name);
    if (snap === undefined) {
      throw new SnapdFault(400, `snap "${name}" is not installed`, "snap-not-installed", name);
    }
    return snap;
  }

  private requireStore(): void {
    if (!this.host.store.reachable) {
      throw new SnapdFault(
        500,
        'Post "https://api.snapcraft.io/v2/snaps/refresh": dial tcp: lookup api.snapcraft.io: no such host',
      );
    }
  }

  private knows(version: string): boolean {
    const [a, b] = [this.version, version].map((text) => text.split(".").map(Number)) as [number[], number[]];
    const at = [0, 1, 2].find((index) => (a[index] ?? 0) !== (b[index] ?? 0));
    return at === undefined || (a[at] ?? 0) > (b[at] ?? 0);
  }
}

function patched(values: Record<string, unknown>, patch: Record<string, unknown>): Record<string, unknown> {
  const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
  const merged = { ...values };
  for (const [key, value] of Object.entries(patch)) {
    const former = merged[key];
    merged[key] = isObject(value) && !Array.isArray(value) ? patched(isObject(former) ? former : {}, value) : value;
    if (value === null) {
      delete merged[key];
    }
  }
  return merged;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
