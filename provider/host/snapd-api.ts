/**
 * snapd's REST API on a host. The status and `kind` of an answer decide, never its wording.
 * @see https://snapcraft.io/docs/snapd-api (read and tried with snapd 2.57.6, 2.68.3 and 2.77.1)
 */
import pLimit from "p-limit";
import * as z from "zod";
import { jsonOf } from "../lxd/client/answers";
import { exchange, type HttpEndpoint } from "../lxd/client/http";
import { type Deadline, until } from "../support/deadline";
import { hasCode, RefusedError, ResponseShapeError, SnapdError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { isThere } from "./paths";

/** snapd's socket. systemd holds it, and starts snapd on a request. */
const SOCKET = "/run/snapd.socket";

/** In the snapd package of Debian and Ubuntu. */
const PROGRAM = "/usr/lib/snapd/snapd";

export const SNAP = "/v2/snaps/lxd";
export const SERVICES = "/v2/apps";

const envelopeSchema = z.looseObject({
  type: z.enum(["sync", "async", "error"]),
  "status-code": z.number(),
  result: z.unknown(),
  change: z.string().exactOptional(),
});

const errorSchema = z.looseObject({ message: z.string().default(""), kind: z.string().default("") });

const taskSchema = z.looseObject({
  summary: z.string(),
  status: z.string(),
  progress: z.looseObject({ done: z.number(), total: z.number() }),
  log: z.array(z.string()).nullish(),
});

const changeSchema = z.looseObject({
  id: z.string(),
  summary: z.string(),
  status: z.string(),
  ready: z.boolean(),
  err: z.string().default(""),
  tasks: z.array(taskSchema).nullish(),
});

/** How long a call may take, and where it shows what it waits for. */
export interface Patience {
  readonly deadline: Deadline;
  progress(text: string): void;
}

export class Snapd {
  private constructor(
    private readonly ssh: SshConnection,
    private readonly endpoint: HttpEndpoint,
    private readonly patience: Patience,
  ) {}

  /** @throws RefusedError when snapd is installed and does not listen: its snaps are unknown then. */
  static async on(ssh: SshConnection, patience: Patience): Promise<Snapd | undefined> {
    const { deadline } = patience;
    if (!(await ssh.listens(SOCKET, deadline))) {
      if (await isThere(ssh, "-e", PROGRAM, deadline)) {
        throw new RefusedError(
          `snapd is installed on ${ssh.name} but does not listen on ${SOCKET}. Start it: systemctl start snapd.socket`,
        );
      }
      return undefined;
    }
    // One request at a time, and no socket is kept: LXD needs the channels of the connection.
    const endpoint = { host: ssh.name, title: `snapd on ${ssh.name}`, agent: ssh.unixSocketAgent(SOCKET), requests: pLimit(1) };
    return new Snapd(ssh, endpoint, patience);
  }

  static async require(ssh: SshConnection, patience: Patience): Promise<Snapd> {
    const snapd = await Snapd.on(ssh, patience);
    if (snapd === undefined) {
      throw new RefusedError(
        `${ssh.name} has no snapd, which install: {method: "snap"} needs. Install it (apt-get install snapd), or use {method: "deb"}`,
      );
    }
    return snapd;
  }

  /** `user@host:port`. */
  get host(): string {
    return this.ssh.name;
  }

  async get<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.output<Schema>> {
    const { result } = await this.send("GET", path);
    const parsed = schema.safeParse(result);
    if (!parsed.success) {
      throw this.wrongShape(`GET ${path}`, z.prettifyError(parsed.error));
    }
    return parsed.data;
  }

  /** @param kind - snapd's `kind` for an object that does not exist; status 404 alone also means an unknown path. */
  async find<Schema extends z.ZodType>(path: string, schema: Schema, kind: string): Promise<z.output<Schema> | undefined> {
    try {
      return await this.get(path, schema);
    } catch (error) {
      if (isKind(error, kind)) {
        return undefined;
      }
      throw error;
    }
  }

  /**
   * Starts a change of the LXD snap when no other change of it is in progress. Waits until it is done.
   * @throws SnapdError when snapd refuses or the change fails.
   */
  async change(path: string, body: Readonly<Record<string, unknown>>, method: "POST" | "PUT" = "POST"): Promise<void> {
    let attempts = 0;
    const id = await until(this.patience.deadline, async () => {
      await this.settled();
      try {
        attempts += 1;
        return (await this.send(method, path, body)).change ?? "";
      } catch (error) {
        // Another change began in between. For services, snapd refuses without a kind, so the request is repeated once.
        if (isKind(error, "snap-change-conflict") || (path === SERVICES && isKind(error, "") && attempts === 1)) {
          return undefined;
        }
        throw error;
      }
    });
    if (id !== "") {
      await this.finish(id, method === "POST" ? `POST ${path} (${String(body["action"])})` : `${method} ${path}`);
    }
  }

  /** Waits until snapd has seeded itself and no change of the snap is in progress, such as an automatic refresh. */
  private async settled(): Promise<void> {
    await this.waitFor(async () => {
      const conf = z.looseObject({ "seed.loaded": z.boolean().exactOptional() });
      const seeded = await this.whileUp(() => this.find("/v2/snaps/system/conf?keys=seed.loaded", conf, "option-not-found"));
      return seeded?.["seed.loaded"] === true || `waiting for snapd on ${this.host} to install its preinstalled snaps`;
    });
    await this.waitFor(async () => {
      const path = "/v2/changes?select=in-progress&for=lxd";
      const changes = await this.whileUp(() => this.get(path, z.array(changeSchema)));
      const [busy] = changes ?? [];
      if (busy !== undefined) {
        return `waiting for snapd on ${this.host} to finish another change: ${describe(busy)}`;
      }
      return changes !== undefined || `waiting for snapd on ${this.host}`;
    });
  }

  private async finish(id: string, request: string): Promise<void> {
    const { status, err, summary } = await this.waitFor(async () => {
      const change = await this.whileUp(() => this.get(`/v2/changes/${id}`, changeSchema));
      if (change === undefined) {
        return `snapd on ${this.host} is restarting`;
      }
      return change.ready ? change : `snapd on ${this.host}: ${describe(change)}`;
    });
    if (status !== "Done") {
      throw new SnapdError(this.host, request, 202, "", err === "" ? `${summary}: ${status}` : err);
    }
  }

  /** Repeats a look until it returns something other than the text of what it waits for. */
  private waitFor<T extends object | true>(look: () => Promise<T | string>): Promise<T> {
    return until(this.patience.deadline, async (report) => {
      const seen = await look();
      if (typeof seen !== "string") {
        return seen;
      }
      report(seen);
      this.patience.progress(seen);
      return undefined;
    });
  }

  /** Reads something; `undefined` while snapd restarts, as it does for a new snapd. */
  private async whileUp<T>(read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read();
    } catch (error) {
      if (hasCode(error, "transport") && this.ssh.open) {
        return undefined;
      }
      throw error;
    }
  }

  private async send(method: string, path: string, body?: object): Promise<z.output<typeof envelopeSchema>> {
    const content = body && { body: JSON.stringify(body) };
    const headers = { connection: "close", ...(content && { "content-type": "application/json" }) };
    const response = await exchange(this.endpoint, { method, path, headers, ...content }, this.patience.deadline);
    const envelope = envelopeSchema.safeParse(jsonOf(response.body.toString("utf8")));
    if (!envelope.success) {
      throw this.wrongShape(`${method} ${path}`, `status ${response.status}`);
    }
    if (envelope.data.type === "error") {
      const { message, kind } = errorSchema.safeParse(envelope.data.result).data ?? { message: "", kind: "" };
      throw new SnapdError(this.host, `${method} ${path}`, envelope.data["status-code"], kind, message);
    }
    return envelope.data;
  }

  private wrongShape(request: string, what: string): ResponseShapeError {
    return new ResponseShapeError(`${SOCKET} on ${this.host} answered ${request} with something that is not snapd's: ${what}`);
  }
}

export function isKind(error: unknown, kind: string): boolean {
  return hasCode(error, "snapd") && error.kind === kind;
}

/** The progress of a change: `Download snap "lxd" (33110) from channel "5.21/stable": 42 %`. */
function describe({ summary, tasks }: z.output<typeof changeSchema>): string {
  const task = tasks?.find(({ status }) => status === "Doing" || status === "Undoing");
  if (task === undefined) {
    return summary;
  }
  const { done, total } = task.progress;
  const last = task.log?.at(-1);
  if (total > 1) {
    return `${task.summary}: ${Math.floor((100 * done) / total)} %`;
  }
  return last === undefined ? task.summary : `${task.summary} (${last})`;
}
