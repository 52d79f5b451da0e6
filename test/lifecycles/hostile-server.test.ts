import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import * as z from "zod";
import { Deadline } from "../../provider/support/deadline";
import { messageOf } from "../../provider/support/errors";
import { connectionSchema } from "../../provider/transport/connection";
import { SshConnection } from "../../provider/transport/ssh";
import { figure } from "../support/figure";
import { type Answer, ApiServer, begun, done, failed, operation } from "../unit/lxd/api-server";
import { TestSshServer } from "../unit/transport/ssh-server";

const SECONDS = 20;

/**
 * Maximum growth of the process: an answer may have 64 MiB, a command's output 16, and both exist more than once
 * briefly.
 */
const GROWTH_BYTES = 400 * 1024 * 1024;

const CHUNK = Buffer.alloc(1024 * 1024, "x");

/** Writes endlessly, as fast as it is read. */
function flood(
  stream: Pick<Socket, "destroyed"> & { write(chunk: Buffer): boolean; once(event: "drain", go: () => void): unknown },
): void {
  while (!stream.destroyed && stream.write(CHUNK));
  if (!stream.destroyed) {
    stream.once("drain", () => flood(stream));
  }
}

const endless = (response: ServerResponse): void => {
  response.on("error", () => undefined).writeHead(200, { "content-type": "application/json" });
  flood(response);
};
const text = (status: number, body: string, headers: Record<string, string> = {}): Answer => {
  return (response: ServerResponse) => void response.writeHead(status, headers).end(body);
};

/** Answers that no LXD gives, and the resulting errors. */
const ANSWERS: readonly [what: string, answer: Answer, said: RegExp][] = [
  ["JSON that is cut off", text(200, '{"type": "sync", "metadata": {"na'), /is not what its API describes/],
  ["no JSON", text(200, "<html>It works!</html>"), /is not what its API describes/],
  ["nothing", text(200, ""), /is not what its API describes/],
  ["JSON without an envelope", text(200, "[]"), /is not what its API describes/],
  [
    "JSON with endless nesting",
    text(200, `{"type": "sync", "metadata": ${"[".repeat(200_000)}`),
    /is not what its API describes/,
  ],
  ["a list instead of an object", done([]), /is not what its API describes/],
  ["nothing instead of an object", done(null), /is not what its API describes/],
  ["a number instead of a name", done({ name: 7 }), /is not what its API describes/],
  ["a redirection", text(301, "", { location: "/1.0/profiles/web" }), /is not what its API describes/],
  ["a proxy's page with status 404", text(404, "Not Found"), /is not what its API describes/],
  [
    "less than announced",
    (response) => void response.writeHead(200, { "content-length": "99" }).write("{", () => response.destroy()),
    /broke during GET/,
  ],
  ["endless headers", text(200, "{}", { "x-long": "x".repeat(100_000) }), /broke during GET .*Header overflow/],
  ["an endless body", endless, /is larger than 67108864 bytes/],
];

describe("a broken or malicious server", () => {
  let api: ApiServer;
  let tried = 0;
  let residentBefore = 0;
  const rejections: unknown[] = [];
  const onRejection = (reason: unknown): void => void rejections.push(reason);

  before(async () => {
    process.on("unhandledRejection", onRejection);
    api = await ApiServer.start();
    residentBefore = process.memoryUsage.rss();
  });
  afterEach("memory stays bounded, and no error is unhandled", () => {
    const growth = process.memoryUsage.rss() - residentBefore;
    assert.ok(growth < GROWTH_BYTES, `the process grew by ${Math.round(growth / 2 ** 20)} MiB`);
    assert.deepEqual(rejections, []);
  });
  after(async () => {
    process.off("unhandledRejection", onRejection);
    figure("hostile answers tried", tried);
    await api.stop();
  });

  const saidOf = async (work: Promise<unknown>): Promise<string> => {
    tried += 1;
    const since = performance.now();
    const said = await work.then(() => "done", messageOf);
    assert.ok(performance.now() - since < (SECONDS + 5) * 1000, "it took longer than its timeout");
    return said;
  };

  describe("as LXD", () => {
    for (const [what, answer, said] of ANSWERS) {
      it(`${what} is an error that names the host and the request`, async () => {
        api.next(answer);
        const lxd = api.client(SECONDS).impatient; // a dropped connection may be a restart, for which other calls would wait
        const message = await saidOf(lxd.get("/1.0/profiles/web", z.looseObject({ name: z.string() })));
        assert.match(message, said);
        assert.match(message, /root@bcn2.*GET \/1\.0\/profiles\/web|GET \/1\.0\/profiles\/web.*root@bcn2/s);
        assert.ok(message.length < 2000);
      });
    }

    it("endless redirections are not followed", async () => {
      const since = api.received.length;
      api.next(text(302, "", { location: "/1.0" }));
      await saidOf(api.client(SECONDS).get("/1.0", z.unknown()));
      assert.equal(api.received.length - since, 1);
    });

    it("an operation that never ends is given up at the deadline", async () => {
      api.next(begun(), ...Array.from({ length: 2000 }, () => done(operation())));
      assert.match(
        await saidOf(api.client(5).change("POST", "/1.0/instances")),
        /did not finish within 5 s; at the end: LXD on root@bcn2 was still at "Creating instance"/,
      );
      api.forget();
    });

    it("an operation that vanishes is an error, and no success", async () => {
      api.next(begun(), failed(404, "Operation not found"), failed(404, "Operation not found"));
      assert.match(
        await saidOf(api.client(SECONDS).change("POST", "/1.0/instances")),
        /LXD on root@bcn2 no longer knows its operation "Creating instance"/,
      );
    });

    it("the end of another operation is not taken as that of the awaited one", async () => {
      api.next(begun(), done(operation({ id: "another", status: "Success", status_code: 200 })));
      assert.match(
        await saidOf(api.client(SECONDS).change("POST", "/1.0/instances")),
        /LXD on root@bcn2 answered a request for the operation b1946ac9 with another operation/,
      );
    });
  });

  describe("as sshd", () => {
    let raw: Server;
    const sockets = new Set<Socket>();
    let speak: (socket: Socket) => void = () => undefined;

    before(async () => {
      raw = createServer((socket) => {
        sockets.add(socket);
        socket.on("error", () => undefined).resume();
        speak(socket);
      });
      await new Promise<void>((resolve) => raw.listen(0, "127.0.0.1", resolve));
    });
    after(async () => {
      for (const socket of sockets) {
        socket.destroy();
      }
      await new Promise((resolve) => raw.close(resolve));
    });

    const VOICES: readonly [what: string, speak: (socket: Socket) => void][] = [
      ["never sends anything", () => undefined],
      ["sends its greeting and then stops", (socket) => void socket.write("SSH-2.0-OpenSSH_9.2p1\r\n")],
      ["floods its banner", flood],
      ["floods its banner with lines", (socket) => void socket.write("hello\r\n".repeat(500_000))],
      ["is a web server", (socket) => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")],
      [
        "sends random data after the greeting",
        (socket) => {
          socket.write("SSH-2.0-x\r\n");
          flood(socket);
        },
      ],
      ["hangs up", (socket) => socket.destroy()],
    ];
    for (const [what, voice] of VOICES) {
      it(`one that ${what} is an error that names the host`, async () => {
        speak = voice;
        const address = raw.address();
        const port = typeof address === "object" && address !== null ? address.port : 0;
        const connection = connectionSchema.parse({
          host: "127.0.0.1",
          port,
          password: "x",
          hostKeyPolicy: "insecure",
          perDialTimeout: 1,
        });
        const message = await saidOf(SshConnection.dial(connection, new Deadline(SECONDS, "the test")));
        assert.match(message, /root@127\.0\.0\.1:\d+ cannot be reached by SSH: .{5,}\. Check that it is switched on/s);
        for (const socket of sockets) {
          socket.destroy();
        }
      });
    }

    it("a command with endless output is stopped, and one that never ends is given up", async () => {
      const server = await TestSshServer.start();
      const ssh = await SshConnection.dial(server.connection(), new Deadline(SECONDS, "the test"));
      try {
        for (const stream of ["stdout", "stderr"] as const) {
          server.behaviour.command = (_line, channel) => flood(stream === "stdout" ? channel : channel.stderr);
          const message = await saidOf(ssh.run(["yes"], { deadline: new Deadline(SECONDS, "the test") }));
          assert.match(message, /^yes on root@127\.0\.0\.1:\d+ wrote more than 16777216 bytes/);
        }
        server.behaviour.command = () => undefined;
        const message = await saidOf(ssh.run(["sleep"], { deadline: new Deadline(0.5, "the test") }));
        assert.match(message, /did not finish within 0\.5 s; at the end: running sleep on root@127/);
      } finally {
        ssh.close();
        await server.stop();
      }
    });
  });
});
