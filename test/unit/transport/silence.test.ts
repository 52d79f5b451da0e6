import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { setTimeout } from "node:timers/promises";
import { Client } from "ssh2";
import { endWhenSilent } from "../../../provider/transport/silence";

const INTERVAL_MS = 50;

describe("A connection on which nothing arrives", () => {
  let client: Client;
  let socket: PassThrough;
  let errors: string[];

  beforeEach(() => {
    [client, socket, errors] = [new Client(), new PassThrough(), []];
    client.on("error", ({ message }) => errors.push(message));
    endWhenSilent(client, socket, INTERVAL_MS);
  });

  afterEach(() => socket.destroy());

  it("is ended after four intervals, and says so once", async () => {
    await setTimeout(INTERVAL_MS * 2);
    assert.equal(socket.destroyed, false);
    await setTimeout(INTERVAL_MS * 6);
    assert.equal(socket.destroyed, true);
    assert.deepEqual(errors, ["nothing arrived from it for 0.2 s"]);
  });

  it("is kept while anything arrives, such as what an upload is answered with", async () => {
    for (let sent = 0; sent < 10; sent += 1) {
      await setTimeout(INTERVAL_MS);
      socket.write("x");
    }
    assert.deepEqual([socket.destroyed, errors], [false, []]);
  });
});
