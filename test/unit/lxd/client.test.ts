import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import fc from "fast-check";
import * as z from "zod";
import { listOf } from "../../../provider/lxd/client/answers";
import { api, type LxdClient, type Operation } from "../../../provider/lxd/client/client";
import { ifClustered } from "../../../provider/lxd/cluster/cluster";
import { ApiServer, begun, done, failed, operation } from "./api-server";

const anything = z.unknown();
const succeeded = done(operation({ status: "Success", status_code: 200 }));
const failure = (err: string, more: object = {}): object =>
  done(operation({ status: "Failure", status_code: 400, err, ...more }));

describe("api paths", () => {
  it("make one segment of every value, whatever its characters", () => {
    const name = fc.string({ unit: "grapheme", minLength: 1 }).filter((text) => text !== "." && text !== "..");
    fc.assert(
      fc.property(name, name, (a, b) => {
        const segments = api`/1.0/instances/${a}/snapshots/${b}`.split("/");
        assert.equal(segments.length, 6);
        assert.deepEqual(
          [segments[3], segments[5]].map((segment) => decodeURIComponent(segment ?? "")),
          [a, b],
        );
      }),
    );
  });

  it("are not built from values that would change the path: an empty name, a directory, half a character", () => {
    for (const name of ["", ".", "..", "web\ud800"]) {
      assert.throws(
        () => api`/1.0/profiles/${name}`,
        /^RefusedError: ".*" is not a name that an object of LXD or Incus can have$/,
      );
    }
  });

  it("escape characters of a query, a fragment or another path", () => {
    assert.equal(api`/1.0/profiles/${"a/../b?project=x#y%2f"}`, "/1.0/profiles/a%2F..%2Fb%3Fproject%3Dx%23y%252f");
    assert.equal(api`/1.0`, "/1.0");
  });
});

describe("LxdClient", () => {
  let server: ApiServer;
  let lxd: LxdClient;

  beforeEach(async () => {
    server = await ApiServer.start();
    lxd = server.client();
  });

  afterEach(() => server.stop());

  describe("reading", () => {
    it("returns the metadata, with the query and the ETag", async () => {
      server.next(done({ name: "web" }));
      const found = await lxd.getWithEtag(api`/1.0/profiles/${"web"}`, z.object({ name: z.string() }), {
        project: "a b",
        recursion: 1,
        target: undefined,
      });
      assert.deepEqual(found, { value: { name: "web" }, etag: '"tag1"' });
      assert.deepEqual(server.lines, ["GET /1.0/profiles/web?project=a+b&recursion=1"]);
    });

    it("takes null for an empty list, in each way to read one", async () => {
      const names = listOf(z.string());
      server.next(done(null), done(null), done(null));
      assert.deepEqual(await lxd.get("/1.0/storage-pools", names), []);
      assert.deepEqual(await lxd.getShared("/1.0/storage-pools", names), []);
      assert.deepEqual(await lxd.getListShared("/1.0/instances", z.string(), String), []);
    });

    it("returns undefined for 404 in find, and throws in get", async () => {
      server.next(failed(404, "Profile not found"), failed(404, "Profile not found"));
      assert.equal(await lxd.find("/1.0/profiles/web", anything), undefined);
      await assert.rejects(
        lxd.get("/1.0/profiles/web", anything),
        /^ApiError: LXD on root@bcn2 answered GET \/1\.0\/profiles\/web with 404: Profile not found$/,
      );
    });

    it("does not treat another error as absent", async () => {
      server.next(failed(403, "not authorized"));
      await assert.rejects(lxd.find("/1.0/profiles/web", anything), /with 403: not authorized$/);
    });

    it("detects success by the type of the answer, not by the HTTP status", async () => {
      server.next((response) => response.writeHead(200).end(JSON.stringify(failed(400, "no"))));
      await assert.rejects(lxd.get("/1.0", anything), /with 400: no$/);
    });

    it("reports an answer that is not LXD's", async () => {
      server.next((response) => response.writeHead(200).end("<html>"), done({ name: 3 }));
      await assert.rejects(
        lxd.get("/1.0", anything),
        /^ResponseShapeError: The answer of LXD on root@bcn2 to GET \/1\.0 is not what its API describes:/,
      );
      await assert.rejects(lxd.get("/1.0", z.object({ name: z.string() })), /name/);
    });

    it("retries while the daemon is starting, fails a read, or drops an answer", async () => {
      const breakOff = (response: ServerResponse): void => {
        response.writeHead(200, { "content-length": 100 });
        response.write("{", () => response.destroy());
      };
      server.next(
        failed(503, "LXD is starting"),
        failed(503, "no members, for it is starting"),
        failed(500, "Failed to get dqlite client"),
        failed(404, "no members, for it is in no cluster"),
        breakOff,
        failed(500, "a text that no version uses so far"),
        done([{ status: "Online" }]),
        done(1),
      );
      assert.equal(await lxd.get("/1.0", z.number()), 1);
      assert.deepEqual(
        server.lines.filter((line) => line === "GET /1.0"),
        Array.from({ length: 5 }, () => "GET /1.0"),
      );
    });

    for (const [what, answer, said] of [
      ["refuses to say whether it is in one", failed(403, "not authorized"), /^ApiError: .*: Failed to get dqlite client$/],
      [
        "does not say whether it is in one",
        () => undefined,
        /did not finish within 1 s; at the end: asking LXD on root@bcn2 whether it is in a cluster, after: .*: Failed to get dqlite client$/,
      ],
    ] as const) {
      it(`is not taken for a server in no cluster when it ${what}: the first error stays`, async () => {
        server.next(failed(500, "Failed to get dqlite client"), answer);
        const once = server.client(1).impatient;
        await assert.rejects(ifClustered(once, once.get("/1.0/cluster/members", anything)), said);
        assert.deepEqual(server.lines, ["GET /1.0/cluster/members", "GET /1.0"]);
      });
    }

    it("does not retry permanent errors: a refusal, a server in no cluster, a member that is down, a silent guest", async () => {
      const members = "GET /1.0/cluster/members?recursion=1";
      server.next(failed(403, "not authorized"));
      await assert.rejects(lxd.get("/1.0", anything), /not authorized$/);
      server.next(failed(500, "a text that no version uses so far"), done({ environment: { server_clustered: false } }));
      await assert.rejects(lxd.get("/1.0/cluster/members", anything), /so far$/);
      const bcn1 = { server_name: "bcn1", status: "Offline" };
      const noRoute = failed(500, "no route to host");
      server.next(noRoute, done([bcn1]), done({ environment: { server_name: "bcn2" } }), noRoute);
      await assert.rejects(lxd.get("/1.0/instances/web", anything), /no route to host$/);
      server.next(failed(500, "agent is silent"));
      await assert.rejects(lxd.connect("/1.0/instances/web/sftp", "sftp"), /agent is silent$/);
      server.next(failed(500, "no"));
      await assert.rejects(lxd.impatient.get("/1.0", anything), /with 500: no$/);
      assert.deepEqual(server.lines, [
        "GET /1.0",
        "GET /1.0/cluster/members",
        "GET /1.0",
        "GET /1.0/instances/web",
        members,
        "GET /1.0",
        "GET /1.0/instances/web",
        "GET /1.0/instances/web/sftp",
        "GET /1.0",
      ]);
    });

    it("retries when a member is down that was the leader: another one leads as soon as the members are listed", async () => {
      const down = done([{ server_name: "bcn1", status: "Offline" }]);
      const itself = done({ environment: { server_name: "bcn2" } });
      server.next(failed(500, "context deadline exceeded"), down, itself, done(1));
      assert.equal(await lxd.get("/1.0/profiles", anything), 1);
    });

    it("does not wait for a member that is down, of which Incus says to ask later", async () => {
      const later = failed(503, 'Cluster member "bcn1" is offline');
      const members = done([
        { server_name: "bcn2", status: "Online" },
        { server_name: "bcn1", status: "Offline" },
      ]);
      const itself = done({ environment: { server_name: "bcn2", server_clustered: true } });
      server.next(later, members, itself, later);
      await assert.rejects(lxd.change("PUT", "/1.0", { query: { target: "bcn1" }, body: {} }), /^ApiError: .* is offline$/);
      server.next(later, members, itself, later);
      await assert.rejects(lxd.get("/1.0", anything, { target: "bcn1" }), /^ApiError: .* is offline$/);
      server.next(later, later, later, done(1)); // it has just booted, and LXD hears of it soon
      assert.equal(await lxd.impatient.get("/1.0", anything, { target: "bcn1" }), 1);
      server.next(failed(503, "starting, and another member is down"), members, itself, done(1));
      assert.equal(await lxd.get("/1.0", anything), 1);
    });

    it("retries when LXD lists only itself as offline, because it answers", async () => {
      const itself = done({ environment: { server_name: "bcn2", server_clustered: true } });
      const members = done([
        { server_name: "bcn2", status: "Offline" },
        { server_name: "bcn1", status: "Online" },
      ]);
      server.next(failed(500, "no leader"), members, itself, done(1));
      assert.equal(await lxd.get("/1.0/profiles", anything), 1);
    });

    it("does not retry a change after an error of LXD", async () => {
      server.next(failed(500, "Failed to get dqlite client"));
      await assert.rejects(lxd.change("POST", "/1.0/profiles", { body: {} }), /dqlite/);
    });

    describe("an answer that stays the same until the time is over", () => {
      const REMEDY = String.raw`A cluster answers only while more than half of the voters .* \(quorum\): bring the other hosts back\. .*recovery\.md`;
      /** Answers everything with an error, or nothing, except the question who the server is. */
      const answering = (error: object | undefined, itself: object | undefined): void =>
        server.next(
          ...Array.from({ length: 100 }, () => (response: ServerResponse, { path }: { path: string }) => {
            const answer = path === "/1.0" ? itself : error;
            if (answer === undefined) {
              return;
            }
            const status = "error_code" in answer ? Number(answer.error_code) : 200;
            response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
          }),
        );
      const clustered = (is: boolean): object => done({ environment: { server_clustered: is } });

      for (const [what, error, said] of [
        [
          "later",
          failed(503, "no leader"),
          String.raw`TimeoutError: the test did not finish within 1 s; at the end: .*503: no leader`,
        ],
        ["that it failed", failed(500, "broken"), "ApiError: .* with 500: broken"],
      ] as const) {
        it(`is reported with the missing quorum, when a member of a cluster says ${what}`, async () => {
          answering(error, clustered(true));
          await assert.rejects(
            server.client(1).get("/1.0/profiles", anything),
            new RegExp(String.raw`^${said}\. LXD on root@bcn2 is in a cluster whose database does not answer\. ${REMEDY}`),
          );
        });

        it(`is reported with the quorum that it may miss, when a server says ${what}, also of itself`, async () => {
          answering(error, error);
          await assert.rejects(
            server.client(1).get("/1.0", anything),
            new RegExp(String.raw`^${said}\. If LXD on root@bcn2 is in a cluster: ${REMEDY}`),
          );
        });
      }

      it("is reported with the missing quorum for a change, too", async () => {
        answering(failed(503, "no leader"), clustered(true));
        await assert.rejects(server.client(0.2).change("PUT", "/1.0/profiles/web", { body: {} }), new RegExp(REMEDY));
      });

      it("is reported with the missing quorum when a member says nothing and who it is, and without it when it is silent", async () => {
        answering(undefined, clustered(true));
        const silence = "TimeoutError: .*; at the end: waiting for the answer to GET /1.0/profiles on root@bcn2";
        await assert.rejects(
          server.client(0.2).get("/1.0/profiles", anything),
          new RegExp(String.raw`^${silence}\. LXD on root@bcn2 is in a cluster whose database does not answer\. ${REMEDY}`),
        );
        server.forget();
        answering(undefined, undefined);
        await assert.rejects(server.client(0.2).get("/1.0/profiles", anything), new RegExp(`^${silence}$`));
      });

      it("is all that is reported, when a server in no cluster fails", async () => {
        answering(failed(500, "broken"), clustered(false));
        await assert.rejects(server.client(1).get("/1.0/profiles", anything), /^ApiError: .* with 500: broken$/);
      });
    });

    it("gives up a request without an answer, naming request and host", async () => {
      server.next(() => undefined);
      await assert.rejects(
        server.client(0.5).get("/1.0", anything),
        /at the end: waiting for the answer to GET \/1\.0 on root@bcn2$/,
      );
    });

    it("names the host when the connection drops during an answer", async () => {
      server.next((response) => {
        response.writeHead(200, { "content-length": 100 });
        response.write("{", () => response.destroy());
      });
      await assert.rejects(
        lxd.impatient.get("/1.0", anything),
        /^TransportError: The connection to LXD on root@bcn2 broke during GET \/1\.0: /,
      );
    });

    it("retries a read once when a kept connection turns out to be closed; a change is not sent again", async () => {
      const drop = (response: { destroy(): void }): void => response.destroy();
      server.next(done(1), drop, done(2), drop);
      assert.equal(await lxd.get("/1.0", anything), 1);
      assert.equal(await lxd.get("/1.0", anything), 2);
      await assert.rejects(
        lxd.change("POST", "/1.0/profiles", { body: {} }),
        /^StaleSocketError|TransportError: .* broke during POST/,
      );
      assert.deepEqual(server.lines, ["GET /1.0", "GET /1.0", "GET /1.0", "POST /1.0/profiles"]);
    });

    it("returns a body that is not JSON unchanged, and an error as an error", async () => {
      server.next((response) => response.writeHead(200, { "x-lxd-type": "file" }).end("text"), failed(404, "no such file"));
      const { body, headers } = await lxd.getRaw("/1.0/instances/c1/files", { path: "/etc/hosts" });
      assert.deepEqual([body.toString(), headers["x-lxd-type"]], ["text", "file"]);
      await assert.rejects(lxd.getRaw("/1.0/instances/c1/files", { path: "/x" }), /with 404: no such file$/);
    });
  });

  it("reports at once that an answer is too large, even if the channel below does not close", async () => {
    const endpoint = server.endpoint();
    const { createConnection } = endpoint.agent as unknown as { createConnection: () => Socket };
    let end: () => void = () => undefined;
    const deaf = (): Socket => {
      const socket = createConnection();
      const destroy = socket.destroy.bind(socket);
      end = () => void destroy();
      return Object.assign(socket, { destroy: () => socket });
    };
    Object.assign(endpoint.agent, { createConnection: deaf });
    server.next((response) => response.end(Buffer.alloc(65 * 1024 * 1024, " ")));
    await assert.rejects(server.client(60, endpoint).get("/1.0/x", anything), /x is larger than \d+ bytes/);
    end();
  });

  describe("shared reading", () => {
    it("sends one request for all concurrent and later reads, on every client of the endpoint", async () => {
      const endpoint = server.endpoint();
      server.next(done([1]));
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => server.client(5, endpoint).getShared("/1.0/profiles", anything, { recursion: 1 })),
      );
      assert.deepEqual(
        answers,
        Array.from({ length: 20 }, () => [1]),
      );
      await server.client(5, endpoint).getShared("/1.0/profiles", anything, { recursion: 1 });
      assert.equal(server.lines.length, 1);
    });

    it("sends a new request for another query, after a change, and after a failure", async () => {
      server.next(done(1), done(2), done(null), done(3), failed(400, "no"), done(4));
      assert.equal(await lxd.getShared("/1.0/profiles", anything), 1);
      assert.equal(await lxd.getShared("/1.0/profiles", anything, { project: "p" }), 2);
      await lxd.change("PUT", "/1.0/profiles/web", { body: {} });
      assert.equal(await lxd.getShared("/1.0/profiles", anything), 3);
      await lxd.change("PUT", "/1.0/profiles/web", { body: {} }).catch(() => undefined);
      assert.equal(await lxd.getShared("/1.0/profiles", anything), 4);
    });

    it("does not keep a failure for the next read", async () => {
      server.next(failed(400, "no"), done(1));
      await assert.rejects(lxd.getShared("/1.0/profiles", anything), /no/);
      assert.equal(await lxd.getShared("/1.0/profiles", anything), 1);
    });
  });

  describe("modifying", () => {
    const shape = z.looseObject({ config: z.record(z.string(), z.string()) });
    const profile = (config: object): object => done({ config });
    const modify = (): Promise<boolean> =>
      lxd.modify("/1.0/profiles/web", shape, ({ config }) => ({ config: { ...config, own: "1" } }));
    const bodies = (): unknown[] => server.received.flatMap(({ body }) => (body === "" ? [] : [JSON.parse(body) as unknown]));

    it("puts what comes of what there is, by its ETag, and tells of an object that is not there", async () => {
      server.next(profile({ a: "b" }), done({}), failed(404, "Profile not found"));
      assert.equal(await modify(), true);
      assert.deepEqual(server.lines, ["GET /1.0/profiles/web", "PUT /1.0/profiles/web"]);
      assert.equal(server.received[1]?.headers["if-match"], '"tag1"');
      assert.deepEqual(bodies(), [{ config: { a: "b", own: "1" } }]);
      assert.equal(await modify(), false);
    });

    it("reads and puts again when it has changed meanwhile", async () => {
      server.next(profile({ a: "b" }), failed(412, "ETag doesn't match"), profile({ a: "c" }), done({}));
      assert.equal(await modify(), true);
      assert.deepEqual(bodies()[1], { config: { a: "c", own: "1" } });
    });

    it("leaves it when someone else has taken it over meanwhile", async () => {
      server.next(profile({}), failed(412, "ETag doesn't match"), profile({ "user.pulumi.urn": "urn:other" }));
      await assert.rejects(modify(), { code: "api", status: 412 });
      assert.equal(bodies().length, 1);
    });

    it("is not guarded when the object was given without its ETag, in no attempt", async () => {
      const gone = failed(404, "Operation not found");
      server.next(begun(), gone, gone, profile({ a: "b" }), done({}));
      const found = { value: { config: { a: "b" } }, etag: undefined };
      assert.equal(await lxd.modify("/1.0/profiles/web", shape, () => ({ config: {} }), { found }), true);
      const tags = server.received.filter(({ method }) => method === "PUT").map(({ headers }) => headers["if-match"]);
      assert.deepEqual(tags, [undefined, undefined]);
    });

    it("says whether the object was saved when LXD fails", async () => {
      const fails = failed(500, "device name is empty");
      server.next(profile({ a: "b" }), fails, profile({ a: "b", own: "1" }));
      await assert.rejects(
        modify(),
        /^FailedError: LXD on .* with 500: device name is empty\. The change was saved nevertheless$/,
      );
      server.next(profile({ a: "b" }), fails, profile({ a: "b" }));
      await assert.rejects(modify(), { code: "api", message: /with 500: device name is empty$/ });
      server.next(profile({ own: "1" }), fails); // it was so before
      await assert.rejects(modify(), { code: "api", message: /with 500: device name is empty$/ });
      server.next(profile({ a: "b" }), failed(400, "Unknown configuration key"));
      await assert.rejects(modify(), { code: "api", status: 400 });
    });

    it("puts nothing when there is nothing to change", async () => {
      server.next(profile({}));
      assert.equal(await lxd.modify("/1.0/profiles/web", shape, () => undefined), true);
      assert.deepEqual(bodies(), []);
    });

    it("asks the object when the operation was lost", async () => {
      server.next(profile({}), begun(), failed(404, "gone"), failed(404, "gone"), profile({ own: "1" }));
      assert.equal(await modify(), true);
      assert.equal(bodies().length, 1);
    });
  });

  describe("changing", () => {
    it("sends JSON, and the ETag that protects the object", async () => {
      server.next(done(null));
      await lxd.change("PUT", "/1.0/profiles/web", { body: { description: "ä" }, etag: '"abc"', query: { project: "p" } });
      const [{ body, headers } = assert.fail()] = server.received;
      assert.equal(body, '{"description":"ä"}');
      assert.deepEqual(
        [headers["if-match"], headers["content-type"], headers["content-length"]],
        ['"abc"', "application/json", "20"],
      );
    });

    it("waits for the operation, in as many rounds as needed", async () => {
      const running = done(operation());
      server.next(begun(), running, running, succeeded);
      assert.equal((await lxd.change("POST", "/1.0/instances", { body: {} }))?.status, "Success");
      const wait = "GET /1.0/operations/b1946ac9/wait?timeout=5";
      assert.deepEqual(server.lines, ["POST /1.0/instances", wait, wait, wait]);
    });

    it("does not wait when LXD completed it at once", async () => {
      server.next(done(null));
      assert.equal(await lxd.change("POST", "/1.0/profiles", { body: {} }), undefined);
    });

    it("throws LXD's error when the operation fails, in each form of LXD's versions", async () => {
      const expected = /^OperationError: LXD on root@bcn2: "Creating instance" failed: No space left$/;
      server.next(begun(), failure("No space left"));
      await assert.rejects(lxd.change("POST", "/1.0/instances", { body: {} }), expected);
      server.next(begun(), failed(400, "No space left"), failure("No space left"));
      await assert.rejects(lxd.change("POST", "/1.0/instances", { body: {} }), expected);
      server.next(begun(), failed(400, "No space left"), failed(404, "Operation not found"));
      await assert.rejects(lxd.change("POST", "/1.0/instances", { body: {} }), expected);
    });

    it("continues when only this round of waiting timed out", async () => {
      server.next(begun(), failed(408, "Timed out waiting for operation"), done(operation()), succeeded);
      assert.equal((await lxd.change("POST", "/1.0/instances", { body: {} }))?.status, "Success");
    });

    it("throws a separate error when LXD no longer knows the operation", async () => {
      server.next(begun(), failed(404, "Operation not found"), failed(404, "Operation not found"));
      await assert.rejects(lxd.change("POST", "/1.0/instances", { body: {} }), {
        code: "lost",
        message: /^LXD on root@bcn2 no longer knows its operation "Creating instance"/,
      });
    });

    it("reports the operation's state at the deadline", async () => {
      server.next(begun(), () => undefined);
      await assert.rejects(
        server.client(1).change("POST", "/1.0/instances", { body: {} }),
        /^TimeoutError: the test did not finish within 1 s; at the end: LXD on root@bcn2 was still at "Creating instance"$/,
      );
    });

    it("reports every round, and drops shared answers at the end", async () => {
      const seen: string[] = [];
      server.next(done(1), done(operation({ metadata: { progress: "50%" } })), succeeded, done(2));
      await lxd.getShared("/1.0/instances", anything);
      const started = { id: "b1946ac9", description: "Creating instance", status_code: 103 } as Operation;
      await lxd.finish(started, ({ status }) => seen.push(status));
      assert.deepEqual(seen, ["Running", "Success"]);
      assert.equal(await lxd.getShared("/1.0/instances", anything), 2);
    });

    it("counts a missing object as removed, and nothing else", async () => {
      server.next(failed(404, "Profile not found"), failed(404, "Profile not found"), failed(400, "Profile is in use"));
      await lxd.remove("/1.0/profiles/web", { project: "p" });
      await assert.rejects(lxd.remove("/1.0/profiles/web"), /Profile is in use/);
      assert.deepEqual(server.lines.slice(0, 2), ["DELETE /1.0/profiles/web?project=p", "GET /1.0/profiles/web?project=p"]);
    });

    it("does not take an error 404 of a removal as proof that the object is gone, for JSON and files", async () => {
      const missing = failed(404, "no such file or directory");
      for (const there of [done({ name: "web" }), (response: ServerResponse) => void response.writeHead(200).end("text")]) {
        server.next(missing, there);
        await assert.rejects(lxd.remove("/1.0/profiles/web"), /with 404: no such file or directory\. The object still exists/);
      }
      server.next(missing, failed(403, "not authorized"));
      await assert.rejects(lxd.remove("/1.0/profiles/web"), /GET .* with 403: not authorized$/);
    });

    it("does not take a lost operation as a removal: it checks, and removes the object again", async () => {
      const forgotten = failed(404, "Operation not found");
      server.next(begun(), forgotten, forgotten, done({ name: "c1" }), begun(), succeeded);
      await lxd.remove("/1.0/instances/c1", { project: "p" });
      assert.deepEqual(
        server.lines.filter((line) => line.includes("instances")),
        ["DELETE", "GET", "DELETE"].map((method) => `${method} /1.0/instances/c1?project=p`),
      );
      server.next(begun(), forgotten, forgotten, failed(404, "Instance not found"));
      await lxd.remove("/1.0/instances/c1");
      const still = [begun(), forgotten, forgotten, done({ name: "c1" })];
      server.next(...still, ...still, ...still);
      await assert.rejects(lxd.remove("/1.0/instances/c1"), { code: "lost" });
    });

    it("checks an object whose removal failed, whatever LXD's error", async () => {
      const gone = failure("Instance not found", { err_code: 404 });
      server.next(begun(), gone, done({ name: "c1" }));
      await assert.rejects(lxd.remove("/1.0/instances/c1"), /failed: Instance not found$/);
      server.next(begun(), failed(404, "No such object"), gone, failed(404, "Instance not found"));
      await lxd.remove("/1.0/instances/c1");
    });

    it("takes an error 404 of a wait as a failure when the operation has failed so", async () => {
      const failed404 = failure("Storage volume not found", { err_code: 404 });
      server.next(begun(), failed(404, "Storage volume not found"), failed404);
      await assert.rejects(lxd.change("POST", "/1.0/instances", { body: {} }), { code: "operation", status: 404 });
    });

    it("sends a stream, and opens it again when LXD is not ready for it", async () => {
      const starting = failed(503, "LXD is starting");
      server.next(starting, starting, begun(), succeeded);
      const sent = { method: "POST", path: "/1.0/images", body: () => Readable.from(["ab", "cd"]) };
      const started = await lxd.beginRaw(sent);
      assert.ok(started !== undefined);
      await lxd.finish(started);
      assert.deepEqual(
        server.received.slice(0, 3).map(({ body }) => body),
        ["abcd", "", "abcd"],
      );
    });
  });
});
