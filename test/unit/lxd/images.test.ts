import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { uploadImage } from "../../../provider/lxd/images/images";
import { ApiServer, begun, done, operation } from "./api-server";

describe("the upload of an image", () => {
  let server: ApiServer;
  let directory: string;
  const fingerprint = "a".repeat(64);
  const upload = async (imported: string): Promise<void> => {
    const metadataPath = join(directory, "debian.tar");
    await writeFile(metadataPath, "unified");
    const ended = operation({ status: "Success", status_code: 200, metadata: { fingerprint: imported } });
    server.next(begun(), done(ended), done(null));
    const image = { fingerprint, public: true, properties: { "user.a": "b c" } };
    await uploadImage(server.client(), "default", { metadataPath }, image, () => undefined);
  };

  beforeEach(async () => {
    server = await ApiServer.start();
    directory = await mkdtemp(join(tmpdir(), "image-upload-"));
  });
  afterEach(async () => {
    await server.stop();
    await rm(directory, { recursive: true });
  });

  it("has its headers for LXD and for Incus, which ignore each other's", async () => {
    await upload(fingerprint);
    const headers = server.received[0]?.headers ?? {};
    for (const prefix of ["x-lxd", "x-incus"]) {
      const sent = ["fingerprint", "public", "properties", "filename"].map((name) => headers[`${prefix}-${name}`]);
      assert.deepEqual(sent, [fingerprint, "true", "user.a=b+c", "debian.tar"]);
    }
  });

  it("removes the image, and fails, when the server did not check the fingerprint", async () => {
    const other = "b".repeat(64);
    await assert.rejects(
      upload(other),
      /^FailedError: The image files changed while they were uploaded to root@bcn2: .* removed again/,
    );
    assert.equal(server.lines.at(-1), `DELETE /1.0/images/${other}?project=default`);
  });
});
