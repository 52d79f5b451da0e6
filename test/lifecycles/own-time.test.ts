import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import type { ActiveFault } from "../../lab/simulated/faults";
import { provider } from "../../provider/entry";
import { messageOf } from "../../provider/support/errors";
import { disconnectAll } from "../../provider/transport/pool";
import { figure } from "../support/figure";
import { SCHEMA_VERSIONS } from "./histories/world";
import { serverWithClock } from "./support/clock";
import { KINDS, validArgs } from "./support/valid-args";

type Properties = Record<string, unknown>;

/** The end of a call: its error, or its success, and after how many seconds. */
async function timed(call: Promise<unknown>): Promise<{ said: string; seconds: number }> {
  const since = performance.now();
  const said = await call.then(() => "done", messageOf);
  return { said, seconds: (performance.now() - since) / 1000 };
}

/** Kinds whose removal leaves the object as it is, and reaches no host. */
const LEFT = ["VmService", "HostService"];

const OPERATIONS = ["create", "read", "update", "delete"] as const;
const SECONDS = 0.3;
/** Timeout of a dial without another deadline. */
const DIAL_SECONDS = 120;
const timeouts = Object.fromEntries(OPERATIONS.map((operation) => [operation, SECONDS]));

describe("a host that accepts connections and sends nothing", () => {
  let silent: Server;
  const sockets = new Set<Socket>();

  before(async () => {
    silent = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined).resume();
    });
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  });
  after(async () => {
    await disconnectAll();
    for (const socket of sockets) {
      socket.destroy();
    }
    await new Promise((resolve) => silent.close(resolve));
  });

  it("keeps no call of any kind past its own timeout, and is named in the error", async () => {
    const { port } = silent.address() as AddressInfo;
    const name = `root@127.0.0.1:${port}`;
    const at = {
      host: "127.0.0.1",
      port,
      user: "root",
      password: "x",
      hostKeyPolicy: "insecure",
      dialErrorLimit: -1,
      perDialTimeout: DIAL_SECONDS,
      proxy: undefined,
      hostKey: undefined,
    };
    const calls = KINDS.flatMap((kind) => {
      const [args = {}] = validArgs(at)[kind] ?? [];
      const reached = "connection" in args ? { connection: at } : {};
      const clustered = "cluster" in args ? { cluster: { endpoints: [at] } } : {};
      const adopting = "adopt" in args ? { adopt: false } : {};
      const reaching = OPERATIONS.filter((operation) => operation !== "delete" || !LEFT.includes(kind));
      return reaching.map((operation) => ({
        kind,
        operation,
        news: { ...args, ...reached, ...clustered, ...adopting, timeouts },
      }));
    });
    const endings = await Promise.all(
      calls.map(async ({ kind, operation, news }) => {
        const { inputs, failures } = await provider(kind).check({ adopt: true }, news);
        assert.deepEqual(failures, []);
        const unfinished = "so that there is something to do";
        const outputs = kind.endsWith("Packages") ? { installed: ["jq"], held: [] } : {}; // something to remove
        const state = { ...inputs, ...outputs, schemaVersion: SCHEMA_VERSIONS[kind], unfinished };
        const call = {
          create: () => provider(kind).create(inputs),
          read: () => provider(kind).read("id", state),
          update: () => provider(kind).update("id", state, inputs),
          delete: () => provider(kind).delete("id", state),
        }[operation];
        return { what: `${kind} ${operation}`, ...(await timed(call())) };
      }),
    );
    for (const { what, said, seconds } of endings) {
      assert.ok(said.includes(name) && /did not finish within 0\.3 s|no answer within/.test(said), `${what}: ${said}`);
      assert.ok(seconds < DIAL_SECONDS / 2, `${what} took ${seconds} s`);
    }
    figure("calls to a silent host", endings.length);
  });
});

describe("resources that share a host, each with its own timeout", () => {
  const suite = serverWithClock();

  /** Moves the clock forward when everything that needs no time has happened. */
  const pass = async (seconds: number): Promise<void> => {
    await suite.clock.settle(() => suite.server.lab.faults.moments.length + suite.server.lab.requests.length);
    suite.clock.forward(seconds * 1000);
  };
  const hits = async (fault: ActiveFault): Promise<void> => {
    while (fault.hits === 0) {
      await suite.clock.breathe();
    }
  };

  const profile = (name: string, seconds: number): Properties => ({
    cluster: suite.server.cluster,
    project: "default",
    name,
    description: "",
    config: {},
    devices: {},
    adopt: false,
    timeouts: { create: seconds, read: seconds },
    schemaVersion: 1,
  });
  const network = (name: string, seconds: number): Properties => ({
    cluster: suite.server.cluster,
    project: "default",
    name,
    type: "bridge",
    description: "",
    config: { "ipv4.address": "none", "ipv6.address": "none" },
    memberConfig: {},
    adopt: false,
    timeouts: { create: seconds },
  });
  const read = (name: string, seconds: number) => timed(provider("LxdProfile").read(`default/${name}`, profile(name, seconds)));
  const create = (name: string, seconds: number) => timed(provider("LxdNetwork").create(network(name, seconds)));

  it("the short one does not shorten a dial of the long one", async () => {
    const hung = suite.server.lab.faults.add({ when: { ssh: "connection", nth: 1 }, effect: "hang" });
    const calls = [read("default", 6), read("default", 60)] as const;
    await hits(hung);
    await pass(7);
    const [short, long] = await Promise.all(calls);
    assert.match(short.said, /root@127\.0\.0\.1:\d+ cannot be reached by SSH: no answer within (6|5\.\d+) s/);
    assert.equal(long.said, "done");
    assert.ok(long.seconds < 15, "it waited for the dial to its end, at 15 s");
  });

  it("the short one does not shorten a list that both wait for, and the long one does not delay the short one", async () => {
    for (const order of ["short first", "long first"]) {
      const slow = suite.server.lab.faults.add({ when: { path: /^\/1\.0\/profiles\?/, nth: 1 }, effect: { delayMs: 30_000 } });
      const calls = [() => read("default", 10), () => read("default", 90)];
      const begun = (order === "short first" ? calls : calls.reverse()).map((call) => call());
      await hits(slow);
      await pass(11);
      await pass(20);
      const [first, second] = await Promise.all(begun);
      const [short, long] = order === "short first" ? [first, second] : [second, first];
      assert.match(
        short?.said ?? "",
        /^LxdProfile read did not finish within 10 s; at the end: waiting for the answer to GET \/1\.0\/profiles\?.* on root@127/,
      );
      assert.ok((short?.seconds ?? Number.NaN) < 29, order);
      assert.equal(long?.said, "done", order);
      slow.remove();
      await disconnectAll();
    }
  });

  it("one that waits for a lock reports a timeout, and does nothing later", async () => {
    const when = { method: "POST", path: /^\/1\.0\/networks/, nth: 1 };
    const held = suite.server.lab.faults.add({ when, effect: { delayMs: 30_000 } });
    const slow = create("br1", 90);
    await hits(held);
    const late = create("br2", 10);
    await pass(11);
    const waiting = await late;
    assert.match(
      waiting.said,
      /did not finish within 10 s; at the end: waiting for other changes of the cluster of root@127\.0\.0\.1:\d+ to end/,
    );
    assert.ok(waiting.seconds < 29);
    await pass(20);
    assert.equal((await slow).said, "done");
    assert.deepEqual(
      suite.server.lab.mutations().map(({ method, path }) => `${method} ${path}`),
      ["POST /1.0/networks?project=default"],
    );
  });
});

describe("a program whose host hangs", () => {
  it("ends by itself when the calls have ended: no abandoned work keeps it alive", async function () {
    this.timeout(240_000);
    const script = join(__dirname, "support", "hung-program.ts");
    const { stdout } = await promisify(execFile)(process.execPath, ["--require", "tsx/cjs", script], { timeout: 200_000 });
    const { endings, aliveMs } = JSON.parse(stdout) as { endings: string[]; aliveMs: number };
    assert.equal(endings.length, 4);
    for (const said of endings) {
      assert.match(said, /did not finish within 0\.5 s|no answer within/);
    }
    assert.ok(aliveMs < 10_000, `it was kept alive for ${aliveMs} ms`);
  });
});
