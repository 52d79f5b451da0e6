import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { SimulatedLab } from "../../../lab/simulated";
import { serveSftp } from "../../../lab/simulated/lxd/sftp";
import { MemoryFiles } from "../../../lab/simulated/memory-files";
import { LxdClient } from "../../../provider/lxd/client/client";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import { InstanceFiles } from "../../../provider/lxd/instances/files";
import { guestOf } from "../../../provider/machine/guest";
import { Deadline, until } from "../../../provider/support/deadline";
import { connectionSchema } from "../../../provider/transport/connection";
import { connect, disconnectAll } from "../../../provider/transport/pool";
import { ApiServer, done, failed } from "./api-server";

const SFTP = "GET /1.0/instances/c1/sftp?project=p";

/** Opens the requested connection. */
const upgraded =
  (speak: (connection: Duplex) => void) =>
  (response: ServerResponse): void => {
    const { socket } = response;
    assert.ok(socket);
    response.detachSocket(socket);
    socket.on("error", () => undefined);
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: sftp\r\nConnection: Upgrade\r\n\r\n");
    speak(socket);
  };

describe("files of an instance", () => {
  let server: ApiServer;
  let guest: MemoryFiles;
  const acts: string[] = [];
  const serve = upgraded((connection) =>
    serveSftp(connection, guest, (act, path) => {
      acts.push(`${act} ${path}`);
      return undefined;
    }),
  );
  const filesOf = (seconds = 60): InstanceFiles => new InstanceFiles({ lxd: server.client(seconds), project: "p", name: "c1" });

  beforeEach(async () => {
    server = await ApiServer.start();
    guest = new MemoryFiles();
    guest.writeFile("/a", "text", { uid: 5, gid: 6, mode: 0o640 });
    acts.length = 0;
  });
  afterEach(() => server.stop());

  it("cost one request, however many there are", async () => {
    server.next(serve);
    const files = filesOf();
    assert.deepEqual(await files.read("/a"), { type: "file", content: "text", uid: 5, gid: 6, mode: 0o640 });
    await Promise.all([files.create("/b", { content: "b", uid: 0, gid: 0, mode: 0o600 }), files.read("/nope")]);
    await files.create("/a", { content: "new", uid: 0, gid: 0, mode: 0o440 });
    await files.remove("/b");
    assert.equal(await files.read("/b"), undefined);
    assert.equal((await files.read("/a"))?.content, "new");
    assert.deepEqual(server.lines, [SFTP]);
  });

  it("keep no connection open when they are no longer used", async () => {
    const endpoint = { ...server.endpoint() };
    const lxd = server.client(60, endpoint);
    for (let round = 0; round < 3; round += 1) {
      server.next(serve);
      await new InstanceFiles({ lxd, project: "p", name: "c1" }).read("/a");
      await until(lxd.deadline, async () => (endpoint.requests.activeCount === 0 ? true : undefined));
    }
    server.next(done({}));
    await lxd.change("PUT", "/1.0/x");
  });

  it("get their owner before their content", async () => {
    server.next(serve);
    await filesOf().create("/secret", { content: "s", uid: 5, gid: 6, mode: 0o400 });
    assert.deepEqual(acts, [
      "remove /secret",
      "look /secret",
      "make /secret",
      ...Array<string>(3).fill("own /secret"),
      "look /secret",
      "write /secret",
    ]);
  });

  for (const [what, given] of [
    ["permissions", { mode: 0o644 }],
    ["owner", { uid: 0 }],
    ["group", { gid: 0 }],
  ] as const) {
    it(`get no content when the server ignores their ${what}`, async () => {
      server.next(
        upgraded((connection) =>
          serveSftp(connection, guest, (act, path) => {
            if (act === "look" && guest.get(path, true) !== undefined) {
              Object.assign(guest.get(path, true) ?? {}, given);
            }
            return undefined;
          }),
        ),
      );
      await assert.rejects(
        filesOf().create("/secret", { content: "s", uid: 5, gid: 6, mode: 0o400 }),
        /^ResponseShapeError: .* while writing \/secret in instance "c1": the server made a file with uid \d, gid \d and mode \d+, and was asked for uid 5, gid 6 and mode 400$/,
      );
      assert.equal(guest.get("/secret", true)?.content.length, 0);
    });
  }

  it("that are neither file nor directory nor link are not opened, because a pipe would never end", async () => {
    const version = "000000050200000003";
    const pipe = ["00000025", "69", "00000000", "0000000f", "00".repeat(16), "000011a4", "00".repeat(8)].join("");
    const packets: number[] = [];
    server.next(
      upgraded((connection) => {
        connection.on("data", (chunk: Buffer) => {
          packets.push(chunk.readUInt8(4));
          connection.write(Buffer.from(packets.length === 1 ? version : pipe, "hex"));
        });
      }),
    );
    await assert.rejects(filesOf(1).read("/pipe"), {
      code: "refused",
      message: /^\/pipe in .* is neither a file nor a directory/,
    });
    assert.deepEqual(packets, [1, 7]);
  });

  for (const [what, speak, expected] of [
    ["is cut", (connection: Duplex) => connection.destroy(), { code: "transport", message: /broke while reading \/a: / }],
    [
      "is cut after the greeting",
      (connection: Duplex) => {
        connection.write(Buffer.from("000000050200000003", "hex"));
        connection.end();
      },
      { code: "transport", message: /broke while reading \/a: / },
    ],
    [
      "sends another protocol",
      (connection: Duplex) => void connection.write("HTTP/1.1 200 OK\r\n\r\n"),
      { code: "response-shape", message: /reading \/a in instance "c1"/ },
    ],
    [
      "speaks an older version",
      (connection: Duplex) => void connection.write(Buffer.from("000000050200000002", "hex")),
      { code: "response-shape", message: /version 2/ },
    ],
    ["says nothing", () => undefined, { code: "timeout", message: /opening an SFTP connection to instance "c1"/ }],
  ] as const) {
    it(`are not reported as missing when their server ${what}`, async () => {
      server.next(upgraded(speak));
      await assert.rejects(filesOf(0.3).read("/a"), expected);
    });
  }

  it("are not reported as missing when a request for one of them fails", async () => {
    server.next(
      upgraded((connection) =>
        serveSftp(connection, guest, (act) => (act === "look" ? { status: 4, error: "input/output error" } : undefined)),
      ),
    );
    await assert.rejects(filesOf().read("/a"), { code: "api", reply: "input/output error", status: 500 });
  });

  it("of an instance that does not exist are an error", async () => {
    server.next(failed(404, "Instance not found"));
    await assert.rejects(filesOf().read("/a"), { code: "api", status: 404, reply: "Instance not found" });
  });
});

describe("files of many instances at once", () => {
  const COUNT = 20; // more than there are places for requests

  for (const user of ["root", "ubuntu"]) {
    it(`share the limit of requests with commands there, for ${user}`, async () => {
      const lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", lxd: "deb", user }] });
      try {
        const deadline = new Deadline(60, "the test");
        const connection = connectionSchema.parse(lab.host("bcn2").connection);
        const lxd = new LxdClient(await endpointOf(await connect(connection, { deadline }), deadline), deadline);
        await lxd.change("POST", "/1.0/storage-pools", { body: { name: "default", driver: "dir" } });
        const names = lab.seedInstances(COUNT, { host: "bcn2", devices: { root: { type: "disk", path: "/", pool: "default" } } });
        const content = "x".repeat(100_000);
        const read = names.map(async (instance) => {
          const guest = guestOf({ lxd, project: "default", name: instance });
          await guest.createFile("/root/a", { content, uid: 0, gid: 0, mode: 0o600 });
          await guest.runSteps([{ argv: ["mv", "-f", "-T", "/root/a", "/root/b"] }], { scratch: "/run/out" });
          return (await guest.readFile("/root/b"))?.content;
        });
        assert.deepEqual(new Set(await Promise.all(read)), new Set([content]));
      } finally {
        await disconnectAll();
        await lab.stop();
      }
    });
  }
});
