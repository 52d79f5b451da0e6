import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fingerprintOf } from "../../provider/lxd/images/files";
import { clusterMemberLifecycle } from "../../provider/resources/lxd-cluster-member";
import { imageLifecycle } from "../../provider/resources/lxd-image";
import { networkLifecycle } from "../../provider/resources/lxd-network";
import { profileLifecycle } from "../../provider/resources/lxd-profile";
import { storagePoolLifecycle } from "../../provider/resources/lxd-storage-pool";
import { vmLifecycle } from "../../provider/resources/lxd-vm";
import { figure } from "../support/figure";
import { Managed, type SimulatedCluster, startTwoMembers } from "../unit/resources/simulated-cluster";
import { startCluster } from "./worlds";

/** With characters that JSON, Go and URLs encode. */
const SECRET = 'S3cret "quoted" <tag>&\\slash%';
const CHANGED = "an0ther-s3cret-\u00fc";
const cloudConfig = (secret: string): string =>
  `#cloud-config\nchpasswd:\n  list: "root:x"\nwrite_files:\n  - content: ${secret}\n`;

/** Forms in which a server may quote a request. */
const QUOTES: Readonly<Record<string, (body: string) => string>> = {
  unchanged: (body) => `cannot take ${body}`,
  "as a string": (body) => `cannot take ${JSON.stringify(body)}`,
  "as Go writes JSON": (body) => `cannot take ${body.replace(/[<>&]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`)}`,
  "by its longest value": (body) => `cannot take "${longestValue(body)}"`,
  "in a URL": (body) => `cannot take /1.0?${encodeURIComponent(longestValue(body))}`,
};

describe("a server that quotes the request in its error", () => {
  let simulated: SimulatedCluster;
  let quoted = 0;

  before(async () => {
    simulated = await startTwoMembers();
    simulated.lab.seedImage("bcn2", { alias: "debian" });
  });

  after(async () => {
    await simulated.stop();
    figure("requests answered with their own content", quoted);
  });

  /** Creates and changes an object; each of its requests for a change is answered once with its own content. */
  async function quotesEachRequest(managed: Managed, secrets: readonly string[], ...steps: readonly object[]): Promise<void> {
    const { lab } = simulated;
    let holding = 0;
    for (const args of steps) {
      for (let nth = 1; ; nth++) {
        let hits = 0;
        for (const quote of Object.values(QUOTES)) {
          let sent = "";
          const remember = (body: string): string => {
            sent = body;
            return quote(body);
          };
          const fault = lab.faults.add({ when: { method: /^(POST|PUT|PATCH)$/, nth }, effect: { quote: remember } });
          const error = await managed.up(args).then(
            () => undefined,
            (thrown: unknown) => thrown as Error,
          );
          fault.remove();
          hits += fault.hits;
          quoted += fault.hits;
          holding += secrets.some((secret) => sent.includes(secret) || sent.includes(JSON.stringify(secret).slice(1, -1)))
            ? 1
            : 0;
          const told = [error?.message ?? "", String(managed.inState("unfinished")), ...managed.warnings, ...managed.progress];
          assertNone(told.join("\n"), secrets);
        }
        if (hits === 0) {
          break;
        }
      }
      assert.equal(await managed.up(args), "same");
    }
    assert.ok(holding > 0, "no request held a secret, so the test proves nothing");
  }

  function assertNone(text: string, secrets: readonly string[]): void {
    for (const secret of secrets) {
      for (const form of [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret), secret.slice(0, 12)]) {
        assert.ok(!text.includes(form), `${form} is in: ${text}`);
      }
    }
  }

  const vm = (userData: string, token: string): object => ({
    cluster: simulated.cluster,
    name: "web1",
    instanceType: "container",
    image: { alias: "debian" },
    rootDisk: { pool: "default" },
    cloudInit: { userData },
    config: { "environment.TOKEN": token, "user.note": token },
  });

  it("shows no secret of a profile", () =>
    quotesEachRequest(
      new Managed(profileLifecycle, "web"),
      [SECRET, CHANGED],
      ...[SECRET, CHANGED].map((secret) => ({
        cluster: simulated.cluster,
        name: "web",
        config: { "cloud-init.user-data": cloudConfig(secret), "environment.TOKEN": secret, "user.note": secret },
      })),
    ));

  it("shows no secret of a storage pool", () =>
    quotesEachRequest(
      new Managed(storagePoolLifecycle, "default"),
      [SECRET, CHANGED],
      ...[SECRET, CHANGED].map((secret) => ({
        cluster: simulated.cluster,
        name: "default",
        driver: "dir",
        config: { "user.password": secret },
      })),
    ));

  it("shows no secret of a network", () =>
    quotesEachRequest(
      new Managed(networkLifecycle, "lxdbr0"),
      [SECRET, CHANGED],
      ...[SECRET, CHANGED].map((secret) => ({
        cluster: simulated.cluster,
        name: "lxdbr0",
        config: { "bgp.peers.upstream.password": secret, "user.note": secret },
      })),
    ));

  it("shows no secret of a virtual machine", () =>
    quotesEachRequest(
      new Managed(vmLifecycle, "web1"),
      [SECRET, CHANGED],
      vm(cloudConfig(SECRET), SECRET),
      vm(cloudConfig(SECRET), CHANGED),
    ));

  it("shows no secret of an image's properties", async () => {
    const files = ["metadata.tar", "rootfs.squashfs"].map((name) => join(simulated.lab.knownHostsPath, "..", name));
    for (const path of files) {
      writeFileSync(path, path);
    }
    const [metadataPath = "", rootfsPath = ""] = files;
    const sourceFingerprint = await fingerprintOf({ metadataPath, rootfsPath });
    await quotesEachRequest(
      new Managed(imageLifecycle, "own"),
      [SECRET, CHANGED],
      ...[SECRET, CHANGED].map((secret) => ({
        cluster: simulated.cluster,
        metadataPath,
        rootfsPath,
        sourceFingerprint,
        properties: { "user.token": secret },
      })),
    );
  });

  it("shows no join token", async () => {
    const lab = await startCluster("bookworm-lxd", { joined: false });
    try {
      const [first, second] = lab.hosts.map(({ connection }) => connection);
      const managed = new Managed(clusterMemberLifecycle, "bcn1");
      const args = { connection: second, name: "bcn1", address: "192.168.1.101:8443", cluster: { endpoints: [first] } };
      const decoded = (body: string): string => {
        const { cluster_token: token } = JSON.parse(body) as { cluster_token: string };
        return `cannot take ${Buffer.from(token, "base64").toString()}`;
      };
      for (const quote of [...Object.values(QUOTES), decoded, (body: string) => JSON.stringify(decoded(body))]) {
        let sent = "";
        const remember = (body: string): string => {
          sent = body;
          return quote(body);
        };
        const fault = lab.faults.add({ when: { method: "PUT", path: /^\/1\.0\/cluster$/ }, effect: { quote: remember } });
        await assert.rejects(managed.up(args), (error: Error) => {
          const { cluster_token: token } = JSON.parse(sent) as { cluster_token: string };
          const { secret } = JSON.parse(Buffer.from(token, "base64").toString()) as { secret: string };
          assert.match(error.message, /cannot take/);
          assertNone([error.message, ...managed.warnings, ...managed.progress].join("\n"), [token, secret]);
          return true;
        });
        fault.remove();
        quoted += fault.hits;
      }
      assert.equal(await managed.up(args), "created");
    } finally {
      await lab.stop();
    }
  });
});

function longestValue(body: string): string {
  const values: string[] = [];
  const collect = (value: unknown): void => {
    if (typeof value === "string") {
      values.push(value);
    } else if (value !== null && typeof value === "object") {
      Object.values(value).forEach(collect);
    }
  };
  try {
    collect(JSON.parse(body));
  } catch {
    return body; // a file
  }
  return values.sort((a, b) => b.length - a.length)[0] ?? "";
}
