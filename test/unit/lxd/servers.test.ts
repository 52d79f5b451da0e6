import assert from "node:assert/strict";
import { getServers } from "../../../provider/lxd/cluster/servers";
import { ApiServer, failed } from "./api-server";

const sync = (metadata: object) => ({ type: "sync", status_code: 200, metadata });
const member = (server_name: string, status = "Offline") => ({
  server_name,
  url: `https://${server_name}:8443`,
  status,
  message: "No heartbeat",
  database: true,
});
const server = (server_name: string) => {
  const environment = { server_name, server_clustered: true, certificate_fingerprint: "f".repeat(64), server_version: "5.0.2" };
  return sync({ environment, config: {}, api_extensions: [] });
};

describe("the servers of a cluster", () => {
  let api: ApiServer;
  beforeEach(async () => {
    api = await ApiServer.start();
  });
  afterEach(() => api.stop());

  it("count the one that answers as online, even if its own heartbeat is late, and no other", async () => {
    const noWay = failed(500, "Missing event connection with target cluster member");
    api.next(sync([member("bcn2"), member("bcn1")]), server("bcn2"), noWay);
    const { members } = await getServers(api.client());
    assert.deepEqual(
      members.map(({ server_name, status }) => [server_name, status]),
      [
        ["bcn2", "Online"],
        ["bcn1", "Offline"],
      ],
    );
    assert.equal(api.lines.at(-1), "GET /1.0?target=bcn1");
  });

  it("are waited for when their heartbeats are late, and they answer", async () => {
    const heard = [member("bcn2", "Online"), member("bcn1", "Online")];
    const late = [member("bcn2", "Online"), member("bcn1")];
    api.next(sync(late), server("bcn2"), server("bcn1"), sync(late), sync(heard), sync(heard));
    const { members } = await getServers(api.client());
    assert.deepEqual(
      members.map(({ status }) => status),
      ["Online", "Online"],
    );
  });

  it("are accepted without a member that LXD does not hear of in half of the time", async () => {
    const late = sync([member("bcn2", "Online"), member("bcn1")]);
    api.next(late, server("bcn2"), server("bcn1"), ...Array.from({ length: 100 }, () => late));
    const { members } = await getServers(api.client(4));
    assert.deepEqual(
      members.map(({ status }) => status),
      ["Online", "Offline"],
    );
  });
});
