import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import type { Servers } from "../../../provider/lxd/cluster/servers";
import type { getServer } from "../../../provider/lxd/server";
import { readServerConfig } from "../../../provider/lxd/server-config/server-config";

describe("a read of the config of members", () => {
  it("hears the failure of one member while another has not answered yet", async () => {
    const servers: Servers = { clustered: true, members: [{ server_name: "bcn1", status: "Online", isDown: false }] };
    const read: typeof getServer = async (_lxd, target) => {
      if (target === "bcn1") {
        throw new Error("the connection broke");
      }
      await setImmediate(); // by then, nobody having heard it would end this process
      throw new Error("the other one broke, too");
    };
    await assert.rejects(readServerConfig(undefined as never, servers, ["bcn1"], read), /^Error: the connection broke$/);
  });
});
