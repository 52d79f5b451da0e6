import assert from "node:assert/strict";
import { getServers } from "../../../provider/lxd/cluster/servers";
import { ApiServer } from "./api-server";

const sync = (metadata: object) => ({ type: "sync", status_code: 200, metadata });
const member = (server_name: string) => ({
  server_name,
  url: `https://${server_name}:8443`,
  status: "Offline",
  message: "No heartbeat",
  database: true,
});

describe("the servers of a cluster", () => {
  let api: ApiServer;
  before(async () => {
    api = await ApiServer.start();
  });
  after(() => api.stop());

  it("count the one that answers as online, though its own heartbeat is late, and no other", async () => {
    const environment = {
      server_name: "bcn2",
      server_clustered: true,
      certificate_fingerprint: "f".repeat(64),
      server_version: "5.0.2",
    };
    api.next(sync([member("bcn2"), member("bcn1")]), sync({ environment, config: {}, api_extensions: [] }));
    const { members } = await getServers(api.client());
    assert.deepEqual(
      members.map(({ server_name, status }) => [server_name, status]),
      [
        ["bcn2", "Online"],
        ["bcn1", "Offline"],
      ],
    );
  });
});
