/** The snap store's releases of LXD, for one host. */
import { behaviourOf, type Flavour } from "./lxd/flavours";

/** One upload. */
export interface StoredSnap {
  revision: number;
  /** As the snap names it. */
  version: string;
  /** Whose behaviour it has. */
  lxd: Flavour;
}

const RELEASES: Readonly<Record<string, StoredSnap>> = {
  "5.0/stable": { revision: 31333, version: "5.0.2-838e1b2", lxd: "bookworm-lxd" },
  "5.21/stable": { revision: 33110, version: "5.21.4-8a3cf61", lxd: "lxd-5.21" },
  "6/stable": { revision: 34850, version: "6.9-4d2a5f1", lxd: "lxd-6" },
  "latest/stable": { revision: 34851, version: "6.9-4d2a5f1", lxd: "lxd-6" },
};

/** A store. */
export class SnapStore {
  /** Whether the host can reach it. */
  reachable = true;
  readonly channels = new Map<string, StoredSnap>();
  private readonly revisions = new Map<number, StoredSnap>();

  /** @param only - What every channel has, for hosts of one version. */
  constructor(only?: Flavour) {
    for (const [channel, snap] of Object.entries(RELEASES)) {
      this.release(channel, only === undefined ? snap : { ...snap, version: behaviourOf(only).version, lxd: only });
    }
  }

  /** Releases an upload to a channel; the former one stays available by its revision. */
  release(channel: string, snap: StoredSnap): void {
    this.channels.set(channel, snap);
    this.revisions.set(snap.revision, snap);
  }

  /** Withdraws an upload. */
  withdraw(revision: number): void {
    this.revisions.delete(revision);
  }

  /** The release in a channel. A risk or branch without its own release has that of its track. */
  in(channel: string): StoredSnap | undefined {
    const [track = ""] = channel.split("/");
    const named = ["stable", "candidate", "beta", "edge"].includes(track) ? "latest" : track;
    return this.channels.get(channel) ?? this.channels.get(`${named}/stable`);
  }

  upload(revision: number): StoredSnap | undefined {
    return this.revisions.get(revision);
  }
}
