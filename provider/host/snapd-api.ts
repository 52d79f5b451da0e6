/**
 * snapd's REST API on one host, as far as managing one snap needs it. Decisions depend on the status and `kind` of an
 * answer, never on its wording.
 * @see https://snapcraft.io/docs/snapd-api (read and tried with snapd 2.57.6, 2.68.3 and 2.77.1)
 */
import pLimit from "p-limit";
import * as z from "zod";
import { exchange, type HttpEndpoint } from "../lxd/client/http";
import { type Deadline, until } from "../support/deadline";
import { hasCode, RefusedError, ResponseShapeError, SnapdError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { isThere } from "./paths";

/** snapd's socket. systemd holds it, and starts snapd on a request. */
const SOCKET = "/run/snapd.socket";

/** Path of requests that start and stop services. */
export const SERVICES = "/v2/apps";

/** Program in the snapd package of Debian and Ubuntu. */
const PROGRAM = "/usr/lib/snapd/snapd";

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

/** Work that snapd does in the background. */
export type Change = z.output<typeof changeSchema>;

/** How long a call may take, and where it reports what it waits for. */
export interface Patience {
  readonly deadline: Deadline;
  /** Shows what the call waits for. */
  progress(text: string): void;
}

/** snapd on a host. */
export class Snapd {
  private constructor(
    private readonly ssh: SshConnection,
    private readonly endpoint: HttpEndpoint,
    private readonly patience: Patience,
  ) {}

  /**
   * The snapd of a host, or `undefined` when the host has none.
   * @throws RefusedError when snapd is installed and does not listen: its snaps are unknown then.
   */
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
    const endpoint = { host: ssh.name, agent: ssh.unixSocketAgent(SOCKET), requests: pLimit(1), daemon: "snapd" };
    return new Snapd(ssh, endpoint, patience);
  }

  /** `user@host:port`. */
  get host(): string {
    return this.ssh.name;
  }

  /** Sends a GET request and checks the shape of the result. */
  async get<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.output<Schema>> {
    const { result } = await this.send("GET", path);
    const parsed = schema.safeParse(result);
    if (!parsed.success) {
      throw this.strange(`GET ${path}`, z.prettifyError(parsed.error));
    }
    return parsed.data;
  }

  /**
   * {@link get}, with `undefined` when snapd answers that the object does not exist.
   * @param kind - snapd's `kind` for that; status 404 alone also means an unknown path.
   */
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
   * Starts a change of a snap when no other change of it is in progress. Waits until it is done.
   * @throws SnapdError when snapd refuses or the change fails.
   */
  async change(
    path: string,
    snap: string,
    body: Readonly<Record<string, unknown>>,
    method: "POST" | "PUT" = "POST",
  ): Promise<void> {
    const { deadline } = this.patience;
    let asked = 0;
    const id = await until(deadline, async () => {
      await this.settled(snap);
      try {
        asked += 1;
        return (await this.send(method, path, body)).change ?? "";
      } catch (error) {
        // Another change began in between. For services, snapd refuses without a kind, so the request is repeated once.
        if (isKind(error, "snap-change-conflict") || (path === SERVICES && isKind(error, "") && asked === 1)) {
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
  private async settled(snap: string): Promise<void> {
    const { patience } = this;
    const { deadline } = patience;
    await until(deadline, async (report) => {
      const conf = z.looseObject({ "seed.loaded": z.boolean().exactOptional() });
      const seeded = await this.whileUp(() => this.find("/v2/snaps/system/conf?keys=seed.loaded", conf, "option-not-found"));
      if (seeded?.["seed.loaded"] === true) {
        return true;
      }
      const text = `waiting until snapd on ${this.host} has installed the snaps that it came with`;
      report(text);
      patience.progress(text);
      return undefined;
    });
    await until(deadline, async (report) => {
      const path = `/v2/changes?select=in-progress&for=${encodeURIComponent(snap)}`;
      const changes = await this.whileUp(() => this.get(path, z.array(changeSchema)));
      const [busy] = changes ?? [];
      if (changes !== undefined && busy === undefined) {
        return true;
      }
      const text = `waiting for snapd on ${this.host}${busy === undefined ? "" : `, which is at work already: ${describe(busy)}`}`;
      report(text);
      patience.progress(text);
      return undefined;
    });
  }

  private async finish(id: string, request: string): Promise<void> {
    const { patience } = this;
    const { deadline } = patience;
    const change = await until(deadline, async (report) => {
      const current = await this.whileUp(() => this.get(`/v2/changes/${id}`, changeSchema));
      if (current?.ready === true) {
        return current;
      }
      const text =
        current === undefined ? `snapd on ${this.host} is starting again` : `snapd on ${this.host}: ${describe(current)}`;
      report(text);
      patience.progress(text);
      return undefined;
    });
    if (change.status !== "Done") {
      throw new SnapdError(this.host, request, 202, "", change.err === "" ? `${change.summary}: ${change.status}` : change.err);
    }
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
    const json = body === undefined ? undefined : JSON.stringify(body);
    const headers = {
      connection: "close",
      ...(json === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(json) }),
    };
    const sent = { method, path, headers, ...(json === undefined ? {} : { body: json }) };
    const response = await exchange(this.endpoint, sent, this.patience.deadline);
    const envelope = envelopeSchema.safeParse(jsonOf(response.body));
    if (!envelope.success) {
      throw this.strange(`${method} ${path}`, `status ${response.status}`);
    }
    if (envelope.data.type === "error") {
      const { message, kind } = errorSchema.safeParse(envelope.data.result).data ?? { message: "", kind: "" };
      throw new SnapdError(this.host, `${method} ${path}`, envelope.data["status-code"], kind, message);
    }
    return envelope.data;
  }

  private strange(request: string, what: string): ResponseShapeError {
    return new ResponseShapeError(`${SOCKET} on ${this.host} answered ${request} with something that is not snapd's: ${what}`);
  }
}

/** Whether snapd gave this `kind` for a failure. */
export function isKind(error: unknown, kind: string): boolean {
  return hasCode(error, "snapd") && error.kind === kind;
}

/** Describes the progress of a change: `Download snap "lxd" (33110) from channel "5.21/stable": 42 %`. */
function describe({ summary, tasks }: Change): string {
  const task = tasks?.find(({ status }) => status === "Doing" || status === "Undoing");
  if (task === undefined) {
    return summary;
  }
  const { done, total } = task.progress;
  const last = task.log?.at(-1);
  return task.summary + (total > 1 ? `: ${Math.floor((100 * done) / total)} %` : last === undefined ? "" : ` (${last})`);
}

function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    return undefined;
  }
}
