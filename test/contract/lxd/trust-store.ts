import assert from "node:assert/strict";
import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import {
  addCertificate,
  type CertificatePut,
  changeCertificate,
  describesCertificates,
  findCertificate,
  findCertificateShared,
  fingerprintOfCertificate,
  listClientCertificates,
  nameCertificate,
  removeCertificate,
} from "../../../provider/lxd/certificates";
import { writeMark } from "../../../provider/lxd/ownership";
import { createProject, deleteProject, findUnknownProjects } from "../../../provider/lxd/projects";
import { type ContractLab, fails, refused } from "./harness";

const CREATING = writeMark({ urn: "urn:pulumi:dev::shop::t::ci", claim: "0123456789abcdef", isCreating: true });

/** Certificates of clients in the trust store, beside those of members. */
export function trustStoreContract(lab: () => ContractLab): void {
  const { pem } = makeCertificate("ci");
  const fingerprint = fingerprintOfCertificate(pem);
  const put = (more: Partial<CertificatePut> = {}): CertificatePut => ({
    ...{ name: "ci", restricted: true, projects: ["trusting"], description: "" },
    ...more,
  });
  const entry = async (which: "primary" | "secondary" = "primary") =>
    (await findCertificate(await lab().lxd(which), fingerprint)) ?? assert.fail("not in the trust store");
  const send = async (method: "POST" | "PUT" | "DELETE", path: string, body: object, etag?: string): Promise<unknown> =>
    (await lab().lxd()).change(method, `/1.0/certificates${path}`, { body, etag });

  describe("a client's certificate", () => {
    before(async () => createProject(await lab().lxd(), "trusting", { description: "", config: {} }));
    after(async () => deleteProject(await lab().lxd(), "trusting"));

    it("is trusted by all members under the fingerprint of its DER form, with the mark for a name until its create has ended", async () => {
      const lxd = await lab().lxd();
      assert.equal(await findCertificate(lxd, fingerprint), undefined);
      await addCertificate(lxd, pem, "client", put({ description: "builds" }), CREATING);
      const { value } = await entry("secondary");
      assert.deepEqual([value.name, value.config["user.pulumi.urn"]], ["", CREATING]);
      assert.deepEqual([value.type, value.restricted, value.projects], ["client", true, ["trusting"]]);
      assert.equal(value.description, (await describesCertificates(lxd)) ? "builds" : undefined);
      assert.equal(await describesCertificates(lxd), lab().server.describesCertificates);
      assert.equal(fingerprintOfCertificate(value.certificate), fingerprint);
      await nameCertificate(lxd, fingerprint, "ci");
      const named = (await entry()).value;
      assert.deepEqual(named, { ...value, name: "ci", config: {} });
      assert.deepEqual(await findCertificateShared(await lab().lxd("secondary"), fingerprint), named);
      assert.deepEqual(await listClientCertificates(lxd), [named]);
    });

    it("is refused when it is there already, when it expired, and for a project that does not exist, and is not added then", async () => {
      const lxd = await lab().lxd();
      await refused(addCertificate(lxd, pem, "client", put(), ""), 409, /^Certificate already in trust store$/);
      const old = makeCertificate("old", { notAfter: "210101000000Z" });
      await refused(addCertificate(lxd, old.pem, "client", put(), ""), 400, /^The provided certificate is expired$/);
      assert.deepEqual((await findUnknownProjects(lxd, ["trusting", "nope"])).unknown, ["nope"]);
      const other = makeCertificate("other");
      await fails(addCertificate(lxd, other.pem, "client", put({ projects: ["nope"] }), ""), lab().server.trustInNoProject);
      assert.equal(await findCertificate(lxd, other.fingerprint), undefined);
    });

    it("changes as a whole but for its type, only if it is unchanged since the read", async () => {
      const lxd = await lab().lxd();
      const { etag } = await entry();
      await changeCertificate(lxd, fingerprint, put({ name: "builds", projects: ["trusting", "default"] }), "");
      const { value } = await entry("secondary");
      assert.deepEqual([value.name, value.restricted, [...value.projects].sort()], ["builds", true, ["default", "trusting"]]);
      const body = { name: "x", type: "client", restricted: false, projects: [], certificate: value.certificate };
      await refused(send("PUT", `/${fingerprint}`, body, etag), 412, /ETag doesn't match/);
      await assert.rejects(send("PUT", `/${fingerprint}`, { ...body, type: "metrics" }), /type cannot be changed/); // 403 or 400
      await changeCertificate(lxd, fingerprint, put({ restricted: false, projects: [] }), "");
      const now = (await entry()).value;
      assert.deepEqual([now.name, now.restricted, now.projects], ["ci", false, []]);
    });

    it("loses a project that is removed", async () => {
      const lxd = await lab().lxd();
      await createProject(lxd, "passing", { description: "", config: {} });
      await changeCertificate(lxd, fingerprint, put({ projects: ["trusting", "passing"] }), "");
      await deleteProject(lxd, "passing");
      assert.deepEqual((await entry()).value.projects, ["trusting"]);
    });

    it("may be one for metrics, and two may have one name, which may be any text", async () => {
      const lxd = await lab().lxd();
      const metrics = makeCertificate("metrics");
      await addCertificate(lxd, metrics.pem, "metrics", put(), "");
      const { value } = (await findCertificate(lxd, metrics.fingerprint)) ?? assert.fail();
      const odd = `.. a/b "c" 'd' ä ${"x".repeat(300)}`;
      await changeCertificate(lxd, metrics.fingerprint, put({ name: odd }), "");
      assert.equal((await findCertificate(lxd, metrics.fingerprint))?.value.name, odd);
      assert.deepEqual([value.name, value.type, value.restricted, value.projects], ["ci", "metrics", true, ["trusting"]]);
      await removeCertificate(lxd, metrics.fingerprint);
      assert.equal(await findCertificate(lxd, metrics.fingerprint), undefined);
    });

    it("is no more trusted after its removal, and those of the members are not among the clients'", async () => {
      const lxd = await lab().lxd();
      await removeCertificate(lxd, fingerprint);
      assert.equal(await findCertificate(await lab().lxd("secondary"), fingerprint), undefined);
      await removeCertificate(lxd, fingerprint);
      assert.deepEqual(await listClientCertificates(lxd), []);
      await refused(send("PUT", `/${fingerprint}`, { name: "ci", type: "client" }), 404, /not found/i);
    });
  });
}
