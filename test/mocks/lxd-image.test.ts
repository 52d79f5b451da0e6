import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { LxdImage } from "../../provider";

describe("the class LxdImage", () => {
  const registered = new Map<string, Record<string, unknown>>();
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "lxd-image-class-"));
    await pulumi.runtime.setMocks({
      newResource: ({ name, inputs }) => {
        registered.set(name, inputs as Record<string, unknown>);
        return { id: name, state: inputs as Record<string, unknown> };
      },
      call: () => ({}),
    });
  });
  after(() => rm(directory, { recursive: true }));

  const cluster = { endpoints: [{ host: "bcn2" }] };
  const settled = (image: LxdImage) => new Promise((resolve) => image.urn.apply(resolve));

  it("works out the fingerprint of the files in the program, so that a preview sees other content", async () => {
    const metadataPath = join(directory, "metadata.tar");
    await writeFile(metadataPath, "metadata");
    await settled(new LxdImage("unified", { cluster, metadataPath }));
    assert.equal(registered.get("unified")?.["sourceFingerprint"], createHash("sha256").update("metadata").digest("hex"));
  });

  it("hands on to check which file cannot be read", async () => {
    await settled(new LxdImage("missing", { cluster, metadataPath: join(directory, "none") }));
    assert.match(String(registered.get("missing")?.["sourceFingerprint"]), /^unreadable metadataPath: cannot be read: ENOENT/);
  });

  it("reads no file for an image of a server", async () => {
    await settled(new LxdImage("ofServer", { cluster, source: { server: "https://images.test", alias: "24.04" } }));
    assert.equal(Object.hasOwn(registered.get("ofServer") ?? {}, "sourceFingerprint"), false);
  });
});
