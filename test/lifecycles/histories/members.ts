/** What people do to the members of the cluster. */
import assert from "node:assert/strict";
import * as z from "zod";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { api, type LxdClient } from "../../../provider/lxd/client/client";
import { destroyed, type Hand } from "./hands";
import { HOSTS } from "./program";

const placed = z.array(z.looseObject({ name: z.string(), location: z.string() }));

/** `lxc cluster remove`, through the other member: when nothing is on it any more, or of one that is lost, with all that it had. */
export const memberRemoved =
  (host: string, how: "emptied" | "lost"): Hand =>
  async (desk) => {
    const lxd = desk.on(HOSTS.find((other) => other !== host) ?? "");
    if (how === "emptied") {
      for (const { name, location } of await lxd.get("/1.0/instances", placed, { recursion: 1 })) {
        await (location === host ? destroyed(name)(desk) : undefined);
      }
    }
    await lxd.change("DELETE", api`/1.0/cluster/members/${host}`, { query: { force: how === "lost" ? 1 : undefined } });
  };

/** `lxc cluster update-certificate`. */
export const certificateRenewed: Hand = async ({ lxd }) => {
  const { pem, fingerprint } = makeCertificate("cluster");
  await lxd.change("PUT", "/1.0/cluster/certificate", { body: { cluster_certificate: pem, cluster_certificate_key: "its key" } });
  assert.equal(await fingerprintOf(lxd), fingerprint);
};

/** Which cluster a host presents, as `lxc info` tells. */
export async function fingerprintOf(lxd: LxdClient): Promise<string> {
  const server = z.looseObject({ environment: z.looseObject({ certificate_fingerprint: z.string() }) });
  return (await lxd.get("/1.0", server)).environment.certificate_fingerprint;
}

/** The host of a member is installed anew. One that holds the cluster's database is not: the cluster would be gone. */
export const memberReinstalled =
  (host: string): Hand =>
  async ({ lab }) => {
    const { daemon } = lab.host(host);
    if (daemon?.database.clustered === true && daemon.database.leader()?.daemon !== daemon) {
      lab.host(host).reinstall();
    }
  };
