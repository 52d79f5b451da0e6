import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import type { LxdClient } from "../../../provider/lxd/client/client";
import { runInInstance } from "../../../provider/lxd/instances/exec";
import { ApiServer, begun, done, failed, operation } from "./api-server";

const OUTPUT = { "1": "/1.0/instances/c1/logs/exec_1.stdout", "2": "/1.0/instances/c1/logs/exec_1.stderr" };
const ended = (code: number): object =>
  operation({ status: "Success", status_code: 200, metadata: { return: code, output: OUTPUT } });
const broken = (err: string, metadata: object | null): object =>
  operation({ status: "Failure", status_code: 400, err, metadata });
const raw =
  (body: string, headers: Record<string, string> = {}) =>
  (response: ServerResponse): void =>
    void response.writeHead(200, { "content-type": "application/octet-stream", ...headers }).end(body);
const REMOVED = [`DELETE ${OUTPUT["1"]}?project=p`, `DELETE ${OUTPUT["2"]}?project=p`];

describe("runInInstance", () => {
  let server: ApiServer;
  let lxd: LxdClient;
  const request = { argv: ["id", "-u"] };
  const ref = () => ({ lxd, project: "p", name: "c1" });

  beforeEach(async () => {
    server = await ApiServer.start();
    lxd = server.client();
  });
  afterEach(() => server.stop());

  it("returns the command's output, and removes it from the host", async () => {
    server.next(begun(), done(ended(0)), raw("0\n"), raw("warned"), done({}), done({}));
    assert.deepEqual(await runInInstance(ref(), request), { exitCode: 0, stdout: "0\n", stderr: "warned" });
    assert.deepEqual(server.lines, [
      "POST /1.0/instances/c1/exec?project=p",
      "GET /1.0/operations/b1946ac9/wait?timeout=5",
      `GET ${OUTPUT["1"]}?project=p`,
      `GET ${OUTPUT["2"]}?project=p`,
      ...REMOVED,
    ]);
    assert.deepEqual(JSON.parse(server.received[0]?.body ?? ""), {
      command: ["id", "-u"],
      environment: {},
      interactive: false,
      "wait-for-websocket": false,
      "record-output": true,
    });
  });

  it("runs as another user, in a directory that every user may enter", async () => {
    server.next(begun(), done(ended(0)), raw(""), raw(""), done({}), done({}));
    await runInInstance(ref(), { ...request, as: { uid: 1000, gid: 100 } });
    const { user, group, cwd } = JSON.parse(server.received[0]?.body ?? "") as Record<string, unknown>;
    assert.deepEqual([user, group, cwd], [1000, 100, "/"]);
  });

  it("throws the end of the command's error output when it fails, without its arguments, and leaves no output behind", async () => {
    server.next(begun(), done(ended(3)), raw("out"), raw("it is so\n"), done({}), done({}));
    await assert.rejects(runInInstance(ref(), request), {
      name: "CommandError",
      exitCode: 3,
      message: 'id on instance "c1" (LXD on root@bcn2) failed with exit code 3: it is so',
    });
    assert.deepEqual(server.lines.slice(-2), REMOVED);
  });

  it("returns the exit code when failure is allowed", async () => {
    server.next(begun(), done(ended(3)), raw(""), raw("no"), done({}), done({}));
    assert.equal((await runInInstance(ref(), { ...request, allowFailure: true })).exitCode, 3);
  });

  it("does not lose a result because its record cannot be removed", async () => {
    lxd = server.client(3); // time for its retries
    server.next(begun(), done(ended(0)), raw("0"), raw(""), failed(500, "no"), failed(404, "gone"));
    assert.equal((await runInInstance(ref(), request)).stdout, "0");
  });

  it("removes the record also when it cannot be read", async () => {
    server.next(begun(), done(ended(0)), failed(400, "disk broken"), done({}), done({}));
    await assert.rejects(runInInstance(ref(), request), /disk broken/);
    assert.deepEqual(server.lines.slice(-2), REMOVED);
  });

  for (const exitCode of [126, 127]) {
    it(`returns the exit code ${exitCode} of a program that cannot be started, in each version's form`, async () => {
      const allowed = { ...request, allowFailure: true };
      const reply = "a text that no version uses so far";
      const end = done(broken(reply, { return: exitCode, output: OUTPUT }));
      server.next(begun(), end, raw(""), raw(""), done({}), done({}));
      assert.equal((await runInInstance(ref(), allowed)).exitCode, exitCode);
      server.next(begun(), failed(400, reply), end, raw(""), raw(""), done({}), done({}));
      assert.equal((await runInInstance(ref(), allowed)).exitCode, exitCode);
    });
  }

  it("reports an unknown end when LXD has forgotten the operation", async () => {
    const forgotten = failed(404, "Operation not found");
    server.next(begun({ description: "Executing command" }), forgotten, forgotten);
    await assert.rejects(runInInstance(ref(), request), {
      name: "LostOperationError",
      message: /no longer knows its operation "running id in instance "c1"" .*its result is unknown/,
    });
  });
});
