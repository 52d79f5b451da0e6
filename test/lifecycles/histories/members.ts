/** Manual changes of cluster members. */
import assert from "node:assert/strict";
import * as z from "zod";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { api, type LxdClient } from "../../../provider/lxd/client/client";
import { destroyed, type ManualChange } from "./manual-changes";
import { HOSTS } from "./program";

const placed = z.array(z.looseObject({ name: z.string(), location: z.string() }));

/** `lxc cluster remove` through the other member: if it is empty, or of a lost one with all its data. */
export const memberRemoved =
  (host: string, how: "emptied" | "lost"): ManualChange =>
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
export const certificateRenewed: ManualChange = async ({ lxd }) => {
  const { pem, fingerprint } = makeCertificate("cluster");
  await lxd.change("PUT", "/1.0/cluster/certificate", { body: { cluster_certificate: pem, cluster_certificate_key: "its key" } });
  assert.equal(await fingerprintOf(lxd), fingerprint);
};

/** The cluster identity that a host presents, as in `lxc info`. */
export async function fingerprintOf(lxd: LxdClient): Promise<string> {
  const server = z.looseObject({ environment: z.looseObject({ certificate_fingerprint: z.string() }) });
  return (await lxd.get("/1.0", server)).environment.certificate_fingerprint;
}

/** Reinstalls the host of a member. Not one that holds the cluster's database, because the cluster would be lost. */
export const memberReinstalled =
  (host: string): ManualChange =>
  async ({ lab }) => {
    const { daemon } = lab.host(host);
    if (daemon?.database.clustered === true && daemon.database.leader()?.daemon !== daemon) {
      lab.host(host).reinstall();
    }
  };
