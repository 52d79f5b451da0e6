import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { askAgent, askMonitor } from "../../../lab/machines/monitor";

describe("A question to QEMU", () => {
  let folder: string;
  let path: string;
  let server: Server;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "monitor-"));
    path = join(folder, "socket");
  });

  afterEach(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });

  const listen = async (answer: (socket: Socket) => void, options = {}): Promise<void> => {
    server = createServer(options, answer).listen(path);
    await once(server, "listening");
  };

  it("fails when QEMU ends before it has read the question", async () => {
    // Linux resets a connection that is closed with something unread.
    await listen((socket) => setTimeout(() => socket.destroy(), 50), { pauseOnConnect: true });
    await assert.rejects(askMonitor(path, [["query-status"]]), /socket was closed during qmp_capabilities\.$/);
  });

  it("returns what the last command returns, and skips events", async () => {
    await listen((socket) =>
      socket.on("data", (line) => {
        const { execute } = JSON.parse(String(line)) as { execute: string };
        socket.write(`{"event":"STOP"}\n{"return":{"answered":"${execute}"}}\n`);
      }),
    );
    assert.deepEqual(await askMonitor(path, [["stop"], ["query-status"]]), { answered: "query-status" });
  });

  it("fails with QEMU's words", async () => {
    await listen((socket) => socket.on("data", () => socket.write('{"error":{"desc":"no such command"}}\n')));
    await assert.rejects(askMonitor(path, []), { message: "qmp_capabilities: no such command" });
  });

  it("fails when the agent does not answer in time", async () => {
    await listen(() => undefined);
    await assert.rejects(askAgent(path, "guest-ping", {}, 0.1), {
      message: "The agent did not answer to guest-ping within 0.1 s.",
    });
  });
});
