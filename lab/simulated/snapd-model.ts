/** The snaps of a simulated host, as snapd reads and changes them. Verified with snapd 2.57.6, 2.68.3 and 2.77.1. */

import type { Surroundings } from "./lxd/database";
import type { Machine } from "./machine";
import { removeThroughMounts } from "./programs/mounts";
import type { SnapStore, StoredSnap } from "./snap-store";
import { type Change, SIZE, SnapdChanges, SnapdFault } from "./snapd-changes";

/** A snap on a host. */
export interface InstalledSnap {
  /** The channel it follows; empty if it was installed from a file. */
  channel: string;
  held: boolean;
  version: string;
  /** A number, or `x1` and so on if it was installed from a file. */
  revision: string;
  /** False once it has left its cohort. */
  cohort?: boolean;
  /** Options set by `snap set`. */
  config?: Record<string, unknown>;
  /** Names of options that its configure hook refuses. @default none */
  refusedOptions?: readonly string[];
  /** @default those that snapd makes itself */
  connections?: SnapConnection[];
}

/** A connection of a plug, such as "lxd:ceph-conf", to a slot. */
export interface SnapConnection {
  plug: { snap: string; plug: string };
  slot: { snap: string; slot: string };
  /** Made by a user, not by snapd at the installation. */
  manual?: boolean;
}

/** Connections that snapd makes when it installs LXD. */
function automaticConnections(): SnapConnection[] {
  return ["lxd-support", "network-bind"].map((name) => ({
    plug: { snap: "lxd", plug: name },
    slot: { snap: "snapd", slot: name },
  }));
}

/** Plugs of LXD's snap that only a user connects. */
const MANUAL_PLUGS = ["ceph-conf", "mount-observe"];

/** What snapd needs of its host. */
export interface SnapdHost extends Machine {
  readonly store: SnapStore;
  readonly snaps: ReadonlyMap<string, InstalledSnap>;
  putSnap(name: string, channel: string, snap: StoredSnap): void;
  removeSnap(name: string): void;
  controlUnit(action: "start" | "stop" | "restart", unit: string): void;
}

/** What snapd knows and does, without its HTTP. */
export class SnapdModel {
  /** Whether it has finished its own setup since it was installed. */
  seeded = true;
  readonly changes: SnapdChanges;

  constructor(
    private readonly host: SnapdHost,
    surroundings: Surroundings,
    private readonly version: string,
  ) {
    this.changes = new SnapdChanges(surroundings);
  }

  /** Begins an automatic refresh of a snap. It runs until the returned function is called. */
  startAutoRefresh(name: string): () => void {
    const change = this.changes.add("auto-refresh", `Auto-refresh snap "${name}"`, name, [
      { kind: "download-snap", summary: `Download snap "${name}" from channel "stable"` },
    ]);
    for (const task of change.tasks) {
      task.status = "Doing";
      task.progress = { label: name, done: 750_592, total: SIZE };
    }
    change.status = "Doing";
    return () => this.changes.end(change);
  }

  read(url: URL): unknown {
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
      return this.host.snaps.get(name)?.config ?? {}; // also for a snap that is not installed
    }
    if (noun === "connections") {
      return this.connectionsOf(url.searchParams.get("snap") ?? "");
    }
    if (noun === "snaps" && what === undefined) {
      return this.describe(name);
    }
    if (noun === "changes" && name === "") {
      const wanted = url.searchParams.get("for");
      const among = this.changes.list.filter(({ data }) => wanted === null || data["snap-names"].includes(wanted));
      return among.filter(({ ready }) => url.searchParams.get("select") === "all" || !ready);
    }
    if (noun === "changes") {
      const change = this.changes.list.find(({ id }) => id === name);
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

  /** In the format of 2.57.6, except the lists of plugs and slots. */
  private connectionsOf(name: string): object {
    const connections = this.requireSnap(name).connections ?? automaticConnections();
    const established = connections.map(({ plug, slot, manual }) => ({
      ...{ slot, plug, interface: plug.plug },
      ...(manual === true ? { manual } : {}),
    }));
    return { established, plugs: [], slots: [] };
  }

  /** The configuration is patched: null removes an option. */
  configure(path: string, values: Record<string, unknown>, fails: boolean): Change {
    const name = decodeURIComponent(path.replace("/v2/snaps/", "").replace(/\/conf$/, ""));
    const snap = this.host.snaps.get(name);
    if (snap === undefined) {
      throw new SnapdFault(404, `snap "${name}" is not installed`, "snap-not-found", name);
    }
    this.changes.requireIdle(name);
    const change = this.changes.add("configure-snap", `Change configuration of "${name}" snap`, name, [
      { kind: "run-hook", summary: `Run configure hook of "${name}" snap` },
    ]);
    return this.changes.run(change, fails, () => {
      if (snap.refusedOptions?.some((option) => option in values) === true) {
        throw new Error(`run hook "configure": cannot use ${JSON.stringify(values)}`);
      }
      snap.config = patched(snap.config ?? {}, values);
    });
  }

  /** Succeeds without effect if plug and slot are connected already. */
  private connect(body: Record<string, unknown>, fails: boolean): Change {
    const { plugs, slots } = body as { plugs: [SnapConnection["plug"]]; slots: [SnapConnection["slot"]] };
    const [[plug], [slot]] = [plugs, slots];
    const snap = this.requireSnap("lxd");
    this.changes.requireIdle("lxd");
    const connections = (snap.connections ??= automaticConnections());
    if (![...MANUAL_PLUGS, ...connections.map((each) => each.plug.plug)].includes(plug.plug)) {
      throw new SnapdFault(400, `snap "lxd" has no plug named "${plug.plug}"`);
    }
    const summary = `Connect ${plug.snap}:${plug.plug} to ${slot.snap}:${slot.slot}`;
    return this.changes.run(this.changes.add("connect-snap", summary, "lxd", [{ kind: "connect", summary }]), fails, () => {
      if (!connections.some((each) => each.plug.plug === plug.plug && each.slot.slot === slot.slot)) {
        connections.push({ plug, slot, manual: true });
      }
    });
  }

  act(path: string, body: Record<string, unknown>, fails: boolean): Change {
    const action = String(body["action"]);
    if (path === "/v2/interfaces" && action === "connect") {
      return this.connect(body, fails);
    }
    if (path === "/v2/apps") {
      const [name = ""] = body["names"] as string[];
      this.requireSnap(name);
      const change = this.changes.add("service-control", `Running service command`, name, [
        { kind: "service-control", summary: `Run service command "${action}" for services of snap "${name}"` },
      ]);
      return this.changes.run(change, fails, () => this.host.controlUnit(action as "start", "snap.lxd.daemon.service"));
    }
    const name = decodeURIComponent(path.replace("/v2/snaps/", ""));
    const known = ["install", "refresh", "switch", "remove", ...(this.knows("2.58") ? ["hold", "unhold"] : [])];
    if (!path.startsWith("/v2/snaps/") || !known.includes(action)) {
      throw new SnapdFault(400, `unknown action ${action}`);
    }
    if (body["cohort-key"] !== undefined && body["revision"] !== undefined) {
      throw new SnapdFault(400, "cannot specify both cohort-key and revision");
    }
    this.changes.requireIdle(name);
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
    const change = this.changes.add(`${action}-snap`, `${action} snap "${name}"`, name, [
      { kind: action, summary: `${action} "${name}"` },
    ]);
    return this.changes.run(change, fails, () => {
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
    const change = this.changes.add(
      "install-snap",
      `Install "${name}" snap from "${channel}" channel`,
      name,
      this.stepsOf(name, channel, found),
    );
    return this.changes.run(change, fails, () => this.host.putSnap(name, channel, found));
  }

  private refresh(name: string, snap: InstalledSnap, body: Record<string, unknown>, fails: boolean): Change {
    this.requireStore();
    if (snap.revision.startsWith("x")) {
      throw new SnapdFault(400, "local snap", "snap-local", name);
    }
    const channel = textOf(body["channel"]) || snap.channel;
    const found = this.stored("refresh", name, channel, body["revision"]);
    const change = this.changes.add(
      "refresh-snap",
      `Refresh "${name}" snap from "${channel}" channel`,
      name,
      this.stepsOf(name, channel, found),
    );
    return this.changes.run(change, fails, () => this.host.putSnap(name, channel, found));
  }

  private remove(name: string, fails: boolean): Change {
    const change = this.changes.add("remove-snap", `Remove "${name}" snap`, name, [
      { kind: "stop-snap-services", summary: `Stop snap "${name}" services` },
      { kind: "clear-snap", summary: `Remove data for snap "${name}"` },
    ]);
    return this.changes.run(change, fails, () => {
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
