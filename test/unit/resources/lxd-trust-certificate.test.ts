import assert from "node:assert/strict";
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import * as z from "zod";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import type { Flavour } from "../../../lab/simulated/lxd/flavours";
import { trustCertificateLifecycle } from "../../../provider/resources/lxd-trust-certificate";
import { killedAtTheEnd, Managed, type SimulatedCluster, startTwoMembers } from "./simulated-cluster";

const shown = z.looseObject({
  name: z.string(),
  type: z.string(),
  restricted: z.boolean(),
  projects: z.array(z.string()),
  description: z.string().optional(),
});

const { pem, fingerprint } = makeCertificate("ci");
const other = makeCertificate("other");

for (const flavour of ["bookworm-lxd", "trixie-incus7"] satisfies Flavour[]) {
  describe(`LxdTrustCertificate on ${flavour}`, () => {
    let two: SimulatedCluster;
    let ci: Managed;

    const args = (more: object = {}): object => ({
      ...{ cluster: two.cluster, name: "ci", certificate: pem, projects: ["shop"] },
      ...more,
    });
    const live = async (of = fingerprint) => (await two.byHand()).find(`/1.0/certificates/${of}`, shown);
    const byHand = async (method: "POST" | "PUT" | "DELETE", path: string, body: object = {}): Promise<void> => {
      await (await two.byHand()).change(method, path, { body });
    };
    const add = (more: object = {}): Promise<void> =>
      byHand("POST", "/1.0/certificates", { name: "mine", type: "client", certificate: pem, ...more });

    beforeEach(async () => {
      two = await startTwoMembers({ flavour });
      await byHand("POST", "/1.0/projects", { name: "shop" });
      ci = new Managed(trustCertificateLifecycle as never, "ci");
    });

    afterEach(async () => {
      const { defects } = two.lab;
      await two.stop();
      assert.deepEqual(defects, []);
    });

    it("is trusted for its projects alone, and unchanged by a second up", async () => {
      assert.equal(await ci.up(args()), "created");
      const { name, type, restricted, projects } = (await live()) ?? assert.fail();
      assert.deepEqual([name, type, restricted, projects], ["ci", "client", true, ["shop"]]);
      assert.deepEqual([ci.inState("fingerprint"), ci.inState("expiresAt")], [fingerprint, "2035-12-31T00:00:00.000Z"]);
      const since = two.lab.requests.length;
      assert.equal(await ci.up(args()), "same");
      assert.deepEqual(two.lab.mutations(since), []);
    });

    it("compares projects as a set, and the certificate by its contents", async () => {
      await ci.up(args({ projects: ["shop", "default"] }));
      const spelled = `Subject: ci\n${pem.replaceAll("\n", "\r\n")}\n`;
      assert.equal(await ci.up(args({ projects: ["default", "shop"], certificate: spelled })), "same");
      const found = await live();
      await byHand("PUT", `/1.0/certificates/${fingerprint}`, { ...found, projects: ["default"], name: "mine" });
      assert.equal(await ci.preview(args({ projects: ["shop", "default"] })), "updated");
      assert.deepEqual([ci.inState("projects"), ci.inState("name")], [["default"], "mine"]);
      assert.equal(await ci.up(args({ restricted: false, projects: [] })), "updated");
      assert.deepEqual([(await live())?.restricted, (await live())?.projects, (await live())?.name], [false, [], "ci"]);
    });

    it("is replaced by another certificate, which the preview announces", async () => {
      await ci.up(args());
      assert.equal(await ci.preview(args({ certificate: other.pem })), "replaced");
      assert.match(
        ci.warnings.join("\n"),
        new RegExp(
          `Trusted certificate "ci" \\(${fingerprint}\\) will be removed, then the new one is added\\. Until then, neither`,
        ),
      );
      assert.equal(await ci.up(args({ certificate: other.pem })), "replaced");
      assert.deepEqual([await live(), (await live(other.fingerprint))?.name], [undefined, "ci"]);
      await ci.destroy();
      assert.equal(await live(other.fingerprint), undefined);
    });

    it("is not adopted without adopt, and adopting shows no mark at any time", async () => {
      await add();
      const server = flavour === "bookworm-lxd" ? "LXD" : "Incus";
      await assert.rejects(ci.up(args()), (error: Error) => {
        const what = `${server} does not say who made it; a pulumi up that was killed may have (a client certificate named "mine", unrestricted)`;
        assert.ok(error.message.includes(what), error.message);
        return true;
      });
      assert.equal((await live())?.name, "mine");
      const since = two.lab.requests.length;
      assert.equal(await ci.up(args({ adopt: true })), "created");
      assert.deepEqual([(await live())?.name, (await live())?.projects], ["ci", ["shop"]]);
      assert.equal(two.lab.mutations(since).length, 1);
    });

    it("is continued after a create that was killed, and shows its mark only until then", async () => {
      const killed = new Managed(killedAtTheEnd(trustCertificateLifecycle as never), "ci");
      await assert.rejects(killed.up(args()), /killed/);
      assert.match((await live())?.name ?? "", /^urn:pulumi:.* creating\]$/);
      const stranger = new Managed(trustCertificateLifecycle as never, "stranger");
      await assert.rejects(stranger.up(args()), /it belongs to the Pulumi resource "ci" of stack "lab"/);
      assert.equal(await ci.up(args()), "created");
      assert.equal((await live())?.name, "ci");
      assert.equal(await ci.up(args()), "same");
    });

    it("is never that of a member: not adopted, and not removed when it became one", async () => {
      await add({ type: "server", name: "bcn9" });
      await assert.rejects(
        ci.up(args({ adopt: true })),
        /as one of type "server": it is a member's own\. Give the client its own/,
      );
      assert.equal((await live())?.name, "bcn9");
      await byHand("DELETE", `/1.0/certificates/${fingerprint}`);
      await ci.up(args());
      await byHand("DELETE", `/1.0/certificates/${fingerprint}`);
      await add({ type: "server", name: "bcn9" });
      await assert.rejects(ci.up(args({ name: "builds" }), { refresh: false }), /no longer exists on/);
      await ci.destroy();
      assert.deepEqual([(await live())?.type, (await live())?.name], ["server", "bcn9"]);
    });

    it("of another type is not adopted: a type cannot be changed", async () => {
      await add({ type: "metrics" });
      await assert.rejects(
        ci.up(args({ adopt: true })),
        /with the type "metrics", which cannot be changed\. Set type: "metrics"/,
      );
      assert.equal(await ci.up(args({ adopt: true, type: "metrics" })), "created");
    });

    it("for a project that is not there is refused before anything is changed, and the preview says so", async () => {
      const wrong = args({ projects: ["shop", "nope"] });
      await ci.preview(wrong);
      assert.match(
        ci.notes.join("\n"),
        /projects names nope, which .* does not have .*Unless that changes before, pulumi up will refuse/,
      );
      await assert.rejects(ci.up(wrong), /projects names nope, which .* does not have \(its projects are default, shop\)/);
      assert.equal(await live(), undefined);
    });

    it("has a description on Incus, and is refused with one on LXD", async () => {
      if (flavour === "bookworm-lxd") {
        await assert.rejects(ci.up(args({ description: "builds" })), /LXD of .* keeps no description of a certificate\. Remove/);
        assert.equal(await live(), undefined);
      } else {
        await ci.up(args({ description: "builds" }));
        assert.equal((await live())?.description, "builds");
        assert.equal(await ci.up(args()), "updated");
        assert.equal((await live())?.description, "");
      }
    });

    it("is gone when it was removed, and a delete is done then", async () => {
      await ci.up(args());
      await byHand("DELETE", `/1.0/certificates/${fingerprint}`);
      assert.equal(await ci.preview(args()), "created");
      await ci.up(args());
      await byHand("DELETE", `/1.0/certificates/${fingerprint}`);
      await ci.destroy();
    });
  });
}

describe("LxdTrustCertificate", () => {
  let two: SimulatedCluster;
  let ci: Managed;
  const args = (more: object = {}): object => ({
    cluster: two.cluster,
    name: "ci",
    certificate: pem,
    projects: ["default"],
    ...more,
  });

  before(async () => {
    two = await startTwoMembers();
  });
  beforeEach(() => {
    ci = new Managed(trustCertificateLifecycle as never, "ci");
  });
  after(() => two.stop());

  it("reports in check what is wrong with a certificate, and never quotes it", async () => {
    const key = generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" }).toString();
    const cases: [certificate: string, fault: RegExp][] = [
      [`${pem}${key}`, /^certificate holds a private key, which belongs to the client alone/],
      ["ci.crt", /^certificate is not a certificate in PEM form: it has no line -----BEGIN CERTIFICATE-----$/],
      ["", /^certificate is not a certificate in PEM form/],
      [`${pem}${other.pem}`, /^certificate has 2 certificates\. Give the one that the client presents/],
      ["-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n", /^certificate is not a valid certificate in PEM form$/],
      [weakCertificate(), /^certificate has an RSA key of 1024 bits, and servers take no less than 2048$/],
    ];
    for (const [certificate, fault] of cases) {
      const [found = "", ...more] = await ci.faults(args({ certificate }));
      assert.match(found, fault);
      assert.deepEqual(more, []);
      assert.ok(!found.includes(certificate.split("\n")[1] ?? "PRIVATE"), found);
    }
  });

  it("reports in check what is wrong besides, by property", async () => {
    assert.deepEqual(await ci.faults(args({ restricted: false })), [
      "projects has no effect with restricted: false. Leave it out, or set restricted: true",
    ]);
    assert.deepEqual(await ci.faults(args({ projects: ["shop", "shop"] })), ["projects.1 names shop a second time"]);
    assert.match((await ci.faults(args({ name: "" }))).join(), /^name is not a valid name of a certificate/);
    assert.match((await ci.faults(args({ name: "urn:pulumi:x" }))).join(), /^name begins with urn:pulumi:/);
    assert.match((await ci.faults(args({ type: "server" }))).join(), /^type /);
  });

  it("has the fingerprint of the DER form, in the server's spelling", () => {
    assert.equal(new X509Certificate(pem).fingerprint256.replaceAll(":", "").toLowerCase(), fingerprint);
  });

  it("is reported by every preview when it expires soon, has expired, or may use no project", async () => {
    const inDays = (days: number): string =>
      new Date(Date.now() + days * 86_400_000).toISOString().replace(/^..|[-:T]|\.\d+/g, "");
    const soon = makeCertificate("soon", { notAfter: inDays(20) });
    await ci.up(args({ certificate: soon.pem, projects: [] }));
    await ci.preview(args({ certificate: soon.pem, projects: [] }));
    assert.match(ci.warnings.join("\n"), /Trusted certificate "ci" expires at 20.*Z\. Give the client a new one before/);
    assert.match(ci.warnings.join("\n"), /Trusted certificate "ci" is restricted to no project, so its client can use none/);
    await ci.destroy();
    ci = new Managed(trustCertificateLifecycle as never, "ci");
    const later = makeCertificate("later", { notAfter: inDays(40) });
    await ci.up(args({ certificate: later.pem }));
    await ci.preview(args({ certificate: later.pem }));
    assert.deepEqual(ci.warnings, []);
    await ci.destroy();
    const old = makeCertificate("old", { notAfter: "210101000000Z" });
    await ci.preview(args({ certificate: old.pem }));
    assert.match(ci.notes.join("\n"), /Trusted certificate "ci" expired at 2021-01-01T00:00:00\.000Z: servers refuse it/);
    await assert.rejects(ci.up(args({ certificate: old.pem })), /The provided certificate is expired/);
  });
});

function weakCertificate(): string {
  const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 1024 });
  return makeCertificate("weak", { subjectKey: publicKey }).pem;
}
