import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as z from "zod";
import { fingerprintOf, uploadOf } from "../../../provider/lxd/images/files";
import { imageLifecycle } from "../../../provider/resources/lxd-image";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { hasCode } from "../../../provider/support/errors";
import { IMAGE_SERVER, offerNewer, REMOTE_IMAGES } from "../../support/remote-images";
import { killedAtTheEnd, Managed, type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

const aliasSchema = z.looseObject({ name: z.string(), target: z.string() });
const imageSchema = z.looseObject({
  fingerprint: z.string(),
  public: z.boolean(),
  type: z.string(),
  expires_at: z.string(),
  properties: z.record(z.string(), z.string()),
});

describe("image files", () => {
  let directory: string;
  let metadataPath: string;
  let rootfsPath: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "image-files-"));
    metadataPath = join(directory, "metadata.tar");
    rootfsPath = join(directory, "rootfs.squashfs");
    await writeFile(metadataPath, "metadata");
    await writeFile(rootfsPath, "rootfs");
  });
  afterEach(() => rm(directory, { recursive: true }));

  it("have LXD's fingerprint: SHA-256 over metadata followed by root file system", async () => {
    const sum = createHash("sha256").update("metadatarootfs").digest("hex");
    assert.equal(await fingerprintOf({ metadataPath, rootfsPath }), sum);
  });

  it("have another fingerprint as soon as a file differs", async () => {
    const before = await fingerprintOf({ metadataPath, rootfsPath });
    await writeFile(rootfsPath, "ROOTFS");
    await utimes(rootfsPath, 1, 1);
    assert.notEqual(await fingerprintOf({ metadataPath, rootfsPath }), before);
  });

  it("are named by their property when they cannot be read", async () => {
    await assert.rejects(fingerprintOf({ metadataPath, rootfsPath: join(directory, "none") }), (error: Error) => {
      assert.match(error.message, /^rootfsPath: cannot be read: ENOENT: no such file or directory/);
      return true;
    });
  });

  it("are sent as a form whose announced length is correct, and report progress", async () => {
    const sent: number[] = [];
    const upload = await uploadOf({ metadataPath, rootfsPath }, (bytes) => sent.push(bytes));
    const body = Buffer.concat((await upload.open().toArray()) as Buffer[]);
    assert.equal(body.length, upload.headers["content-length"]);
    assert.equal(sent.at(-1), upload.bytes);
    assert.match(
      body.toString(),
      /name="metadata"; filename="metadata\.tar"\r\n[^]*\r\n\r\nmetadata\r\n--[^]*name="rootfs"; filename="rootfs\.squashfs"/,
    );
  });

  it("are recognised as a virtual machine's by the disk's magic number", async () => {
    await writeFile(rootfsPath, Buffer.from("QFI\xfb and more", "latin1"));
    const upload = await uploadOf({ metadataPath, rootfsPath }, () => undefined);
    assert.match(Buffer.concat((await upload.open().toArray()) as Buffer[]).toString(), /name="rootfs\.img"/);
  });

  it("are sent alone when there is one", async () => {
    const upload = await uploadOf({ metadataPath }, () => undefined);
    assert.equal(upload.headers["content-type"], "application/octet-stream");
    assert.equal(Buffer.concat((await upload.open().toArray()) as Buffer[]).toString(), "metadata");
  });
});

describe("LxdImage", () => {
  let two: SimulatedCluster;
  let directory: string;
  let files: { metadataPath: string; rootfsPath: string };
  let image: Managed;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "lxd-image-"));
    files = { metadataPath: join(directory, "metadata.tar"), rootfsPath: join(directory, "rootfs.squashfs") };
    await writeFile(files.metadataPath, "metadata");
    await writeFile(files.rootfsPath, "rootfs");
  });
  after(() => rm(directory, { recursive: true }));

  beforeEach(async () => {
    two = await startTwoMembers({
      remoteImages: REMOTE_IMAGES,
    });
    image = newImage("debian");
  });
  afterEach(() => two.stop());

  const newImage = (name: string) => new Managed(imageLifecycle, name);
  const args = async (more: object = {}) => {
    const given = { cluster: two.cluster, ...files, aliases: ["debian-12"], ...more };
    return { ...given, sourceFingerprint: await fingerprintOf(given) };
  };
  const ofServer = (more: object = {}) => ({
    cluster: two.cluster,
    source: { server: IMAGE_SERVER, alias: "24.04" },
    instanceType: "container",
    ...more,
  });
  const alias = async (name: string) => (await two.byHand()).find(`/1.0/images/aliases/${name}`, aliasSchema);
  const live = async (fingerprint: string) => (await two.byHand()).find(`/1.0/images/${fingerprint}`, imageSchema);

  it("is uploaded once, under the fingerprint that was computed before", async () => {
    const given = await args({ properties: { release: "bookworm & more" } });
    assert.equal(await image.up(given), "created");
    assert.equal(image.inState("fingerprint"), given.sourceFingerprint);
    assert.equal((await live(given.sourceFingerprint))?.properties["release"], "bookworm & more");
    assert.equal((await alias("debian-12"))?.target, given.sourceFingerprint);
    const before = two.lab.requests.length;
    assert.equal(await image.up(given), "same");
    assert.deepEqual(two.lab.mutations(before), []);
  });

  it("expires at the given time, in any spelling of it, and keeps what it has without one", async () => {
    const { sourceFingerprint } = await args();
    const expiry = async (): Promise<string | undefined> => (await live(sourceFingerprint))?.expires_at;
    await image.up(await args({ expiresAt: "2035-06-30T12:00:00+02:00" }));
    assert.equal(await expiry(), "2035-06-30T10:00:00Z");
    assert.equal(await image.up(await args({ expiresAt: "2035-06-30T10:00:00.5Z" })), "same");
    const since = two.lab.requests.length;
    assert.equal(await image.up(await args()), "updated"); // of the state alone
    assert.deepEqual([two.lab.mutations(since), await image.up(await args())], [[], "same"]);
    assert.equal(await expiry(), "2035-06-30T10:00:00Z");
    assert.equal(await image.up(await args({ expiresAt: "2036-01-01T00:00:00Z" })), "updated");
    assert.equal(await expiry(), "2036-01-01T00:00:00Z");
    const stranger = newImage("stranger");
    await assert.rejects(
      stranger.up(await args({ aliases: [], expiresAt: "2037-01-01T00:00:00Z" })),
      /was not made by this resource, and differs in expiresAt\. Set adopt: true/,
    );
    assert.deepEqual(await image.faults(await args({ expiresAt: "next year" })), [
      'expiresAt is not a time such as "2027-06-30T00:00:00Z"',
    ]);
  });

  it("is found, not uploaded again, when an interrupted run had uploaded it, and is removed with its resource", async () => {
    await assert.rejects(new Managed(killedAtTheEnd(imageLifecycle) as never, "debian").up(await args()), /killed/);
    const before = two.lab.requests.length;
    await image.up(await args());
    assert.ok(two.lab.mutations(before).every(({ method }) => method === "PUT"));
    assert.equal(image.inState("created"), true);
    await image.destroy();
    assert.equal(await live((await args()).sourceFingerprint), undefined);
  });

  it("is used, and kept when its resource is removed, if it has the mark of another state; with adopt it becomes its own", async () => {
    await image.up(await args());
    const again = newImage("debian");
    assert.equal(await again.up(await args()), "created");
    assert.equal(again.inState("created"), false);
    assert.match(again.warnings.join(), /It stays when this resource is removed, because it /);
    const adopting = newImage("debian");
    assert.equal(await adopting.up(await args({ adopt: true })), "created");
    assert.equal(adopting.inState("created"), true);
    await image.destroy();
    assert.notEqual(await live((await args()).sourceFingerprint), undefined);
  });

  it("uses an image that others imported, and keeps it when the resource is removed", async () => {
    await image.up(await args());
    const other = newImage("other");
    await other.up(await args({ aliases: ["second"] }));
    assert.equal(other.inState("created"), false);
    await other.destroy();
    assert.equal(await alias("second"), undefined);
    assert.notEqual(await live(String(image.inState("fingerprint"))), undefined);
  });

  it("does not change the properties of an image that others imported, unless adopt is set", async () => {
    await image.up(await args());
    const other = newImage("other");
    const given = { aliases: [], properties: { os: "Mine" } };
    await assert.rejects(
      other.up(await args(given)),
      / was not made by this resource, and differs in properties\.os\. Set adopt: true to change it/,
    );
    await other.up(await args({ ...given, adopt: true }));
    assert.equal((await live(String(other.inState("fingerprint"))))?.properties["os"], "Mine");
  });

  it("leaves a property that the program no longer gives on an image that others imported", async () => {
    await image.up(await args({ properties: { os: "Debian" } }));
    const other = newImage("other");
    await other.up(await args({ aliases: [], properties: { os: "Debian" } }));
    assert.equal(await other.up(await args({ aliases: [] })), "updated");
    assert.equal((await live(String(other.inState("fingerprint"))))?.properties["os"], "Debian");
  });

  it("fails, and is not refused, when somebody removes it right after its upload", async () => {
    const given = await args();
    two.lab.faults.add({
      when: { method: "GET", path: /^\/1\.0\/images\/[0-9a-f]{64}\?/, nth: 2 },
      effect: {
        answer: (response) => {
          two.lab.host("bcn2").daemon?.database.images.clear();
          response.end(JSON.stringify({ type: "error", error_code: 404, error: "Image not found", metadata: null }));
        },
      },
    });
    await assert.rejects(image.up(given), (error: Error) => {
      assert.match(error.message, /^Image [0-9a-f]{12} no longer exists on /);
      return hasCode(error.cause, "failed");
    });
    assert.equal(await image.up(given), "created");
  });

  it("is replaced, and its alias is moved, when the files have other content", async () => {
    await image.up(await args());
    const first = String(image.inState("fingerprint"));
    const rootfsPath = join(directory, "rootfs-2.squashfs");
    await writeFile(rootfsPath, "another");
    const given = await args({ rootfsPath });
    assert.equal(await image.preview(given), "replaced");
    await image.up(given);
    assert.equal((await alias("debian-12"))?.target, given.sourceFingerprint);
    assert.equal(await live(first), undefined);
  });

  it("is the same image in another place", async () => {
    await image.up(await args());
    const rootfsPath = join(directory, "moved.squashfs");
    await writeFile(rootfsPath, "rootfs");
    assert.equal(await image.preview(await args({ rootfsPath })), "same");
  });

  it("refuses an alias of another image before it uploads, and moves it with adopt", async () => {
    two.lab.seedImage("bcn2", { alias: "debian-12" });
    const before = two.lab.requests.length;
    await assert.rejects(
      image.up(await args()),
      /The alias "debian-12" of project "default" points to another image on .*: [0-9a-f]{12} \(debian-12\)/,
    );
    assert.deepEqual(two.lab.mutations(before), []);
    await image.up(await args({ adopt: true }));
    assert.equal((await alias("debian-12"))?.target, image.inState("fingerprint"));
  });

  it("shows an alias that was moved or removed manually, and repairs it", async () => {
    await image.up(await args({ aliases: ["debian-12", "stable"] }));
    const target = two.lab.seedImage("bcn2", { alias: "elsewhere" });
    const lxd = await two.byHand();
    await lxd.change("PUT", "/1.0/images/aliases/debian-12", { body: { target, description: "" } });
    await lxd.change("DELETE", "/1.0/images/aliases/stable");
    assert.equal(await image.preview(await args({ aliases: ["debian-12", "stable"] })), "updated");
    await image.up(await args({ aliases: ["debian-12", "stable"] }));
    assert.equal((await alias("debian-12"))?.target, image.inState("fingerprint"));
    assert.equal((await alias("stable"))?.target, image.inState("fingerprint"));
  });

  it("removes an alias that is no longer wanted", async () => {
    await image.up(await args({ aliases: ["debian-12", "stable"] }));
    await image.up(await args());
    assert.equal(await alias("stable"), undefined);
    assert.notEqual(await alias("debian-12"), undefined);
  });

  it("is imported again when it was removed manually", async () => {
    await image.up(await args());
    await (await two.byHand()).change("DELETE", `/1.0/images/${String(image.inState("fingerprint"))}`);
    assert.equal(await image.preview(await args()), "created");
    assert.equal(await image.up(await args()), "created");
  });

  it("stays in state when it is uploaded but its alias cannot be created, and is finished by the next up", async () => {
    const fault = two.lab.faults.add({
      when: { method: "POST", path: /^\/1\.0\/images\/aliases/ },
      effect: { status: 500, error: "database is full" },
    });
    await assert.rejects(image.up(await args()), /database is full/);
    fault.remove();
    assert.equal(await image.up(await args()), "updated");
    assert.notEqual(await alias("debian-12"), undefined);
  });

  it("is copied by LXD from an image server, and its alias there is not resolved again", async () => {
    assert.equal(await image.up(ofServer({ aliases: ["ubuntu"] })), "created");
    assert.equal(image.inState("fingerprint"), "ab".repeat(32));
    assert.equal(image.inState("created"), true);
    const before = two.lab.requests.length;
    assert.equal(await image.up(ofServer({ aliases: ["ubuntu"] })), "same");
    assert.deepEqual(two.lab.mutations(before), []);
  });

  it("of a server is for what an LxdVm is that says nothing of it", async () => {
    const { source } = ofServer();
    assert.equal(await image.up({ cluster: two.cluster, source, aliases: ["ubuntu"] }), "created");
    assert.equal(image.inState("type"), "virtual-machine");
    const vm = new Managed(vmLifecycle, "web");
    const devices = { root: { type: "disk", path: "/", pool: "local" } };
    await (await two.byHand()).change("POST", "/1.0/storage-pools?target=bcn1", { body: { name: "local", driver: "dir" } });
    await (await two.byHand()).change("POST", "/1.0/storage-pools?target=bcn2", { body: { name: "local", driver: "dir" } });
    await (await two.byHand()).change("POST", "/1.0/storage-pools", { body: { name: "local", driver: "dir" } });
    assert.equal(await vm.up({ cluster: two.cluster, name: "web", image: { alias: "ubuntu" }, devices }), "created");
    assert.equal(vm.inState("imageFingerprint"), "cd".repeat(32));
  });

  it("replaces no instance, and is not replaced, when its server offers a newer one under the alias", async () => {
    const given = { cluster: two.cluster, source: ofServer().source, aliases: ["ubuntu"] };
    await image.up(given);
    for (const target of ["?target=bcn1", "?target=bcn2", ""]) {
      await (await two.byHand()).change("POST", `/1.0/storage-pools${target}`, { body: { name: "local", driver: "dir" } });
    }
    const vm = new Managed(vmLifecycle, "web");
    const devices = { root: { type: "disk", path: "/", pool: "local" } };
    const byFingerprint = { cluster: two.cluster, name: "web", image: { fingerprint: image.inState("fingerprint") }, devices };
    assert.equal(await vm.up(byFingerprint), "created");
    offerNewer(two.lab, "99".repeat(32));
    const since = two.lab.requests.length;
    assert.equal(await image.up(given), "same");
    assert.equal(await vm.up({ ...byFingerprint, image: { fingerprint: image.inState("fingerprint") } }), "same");
    assert.deepEqual(two.lab.mutations(since), []);
  });

  it("is read from a state of version 1, which had remote with the instance type in it", () => {
    const { server } = ofServer().source;
    const remote = { server, protocol: "simplestreams", alias: "24.04", type: "container" };
    const upgraded = [{ project: "default", remote }, { ...files }].map((state) => imageLifecycle.upgrade?.(state, 1));
    const source = { server, protocol: "simplestreams", alias: "24.04" };
    assert.deepEqual(upgraded, [{ project: "default", source, instanceType: "container" }, files]);
  });

  for (const [title, given, message] of [
    [
      "files and a server at once",
      async () => args({ source: ofServer().source }),
      /^metadataPath is required without source, and not allowed with it$/,
    ],
    ["neither files nor a server", async () => ({ cluster: two.cluster }), /^metadataPath is required without source/],
    ["a root file system alone", async () => ofServer({ rootfsPath: "/x" }), /^rootfsPath needs metadataPath too/],
    [
      "a server without an image",
      async () => ofServer({ source: { server: IMAGE_SERVER } }),
      /^source needs either alias or fingerprint/,
    ],
    [
      "a server with an invalid address",
      async () => ofServer({ source: { server: "ubuntu", alias: "x" } }),
      /^source\.server must be the https/,
    ],
    [
      "an image of the cluster as a source",
      async () => ofServer({ source: { alias: "24.04" } }),
      /^source\.server must be the https/,
    ],
    [
      "an instance type for files",
      async () => args({ instanceType: "container" }),
      /^instanceType is only for an image of source: local files contain their type$/,
    ],
    [
      "updates of an image from files",
      async () => args({ autoUpdate: true }),
      /^autoUpdate is only for an image of source by alias: files and a fingerprint have no newer image$/,
    ],
    [
      "updates of a fingerprint",
      async () =>
        ofServer({ source: { server: IMAGE_SERVER, fingerprint: "ab".repeat(32) }, aliases: ["ubuntu"], autoUpdate: true }),
      /^autoUpdate is only for an image of source by alias/,
    ],
    [
      "updates without an alias of its own",
      async () => ofServer({ autoUpdate: true }),
      /^autoUpdate needs aliases: the newer image is found by them$/,
    ],
    ["an alias with a line break", async () => args({ aliases: ["a\nb"] }), /^aliases\.0 is not a valid alias/],
    [
      "a file that cannot be read",
      async () => ({ ...(await args()), sourceFingerprint: "unreadable rootfsPath: cannot be read: ENOENT: no such file" }),
      /^rootfsPath cannot be read: ENOENT: no such file$/,
    ],
    [
      "a fingerprint that was not computed",
      async () => ({ ...(await args()), sourceFingerprint: "mine" }),
      /^sourceFingerprint is computed from the files/,
    ],
  ] as const) {
    it(`refuses ${title} in check`, async () => {
      const faults = await image.faults(await given());
      assert.equal(faults.length, 1, faults.join("\n"));
      assert.match(faults[0] ?? "", message);
    });
  }
});
