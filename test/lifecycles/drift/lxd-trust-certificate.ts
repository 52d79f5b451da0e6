import { makeCertificate } from "../../../lab/simulated/lxd/certificate";
import { trustCertificateLifecycle } from "../../../provider/resources/lxd-trust-certificate";
import type { ManualChange } from "./manual-changes";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp } from "./world";

const { pem, fingerprint } = makeCertificate("ci");
const PATH = `/1.0/certificates/${fingerprint}`;
const LIVE = { name: "ci", type: "client", restricted: true, projects: ["shop"], certificate: pem };

const edit = (text: string, change: object): ManualChange => ({
  text: `\`lxc config trust edit FINGERPRINT\` with ${text}`,
  act: (lab) => lab.byHand("bcn2", "PUT", PATH, { ...LIVE, ...change }).then(() => undefined),
});
const remove: ManualChange = {
  text: "`lxc config trust remove FINGERPRINT`",
  act: (lab) => lab.byHand("bcn2", "DELETE", PATH).then(() => undefined),
};

export const trustCertificateDrift = driftTable(trustCertificateLifecycle, {
  given: { name: "ci", certificate: pem, projects: ["shop"] },
  start: (program) =>
    cluster({
      ...(program === "of Incus" && { lab: { flavour: "trixie-incus7" } }),
      prepare: ["lxc project create shop"],
      look: async (two) => lookUp(two, PATH),
    }),
  programs: { "of Incus": { description: "builds" } },

  object: {
    "the entry itself": { byHand: remove, answer: "recreated", why: "the trust store has no such certificate" },
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing entry is adopted"),
    certificate: { answer: "cannot drift", why: "an entry is found by the fingerprint of its certificate" },
    type: {
      byHand: [
        remove,
        {
          text: "`lxc config trust add ci.crt --type metrics --restricted --projects shop`",
          act: async (lab) => {
            await lab.byHand("bcn2", "POST", "/1.0/certificates", { ...LIVE, type: "metrics" });
          },
        },
      ],
      answer: "replaced",
      why: "the type cannot be changed in place",
    },
    name: { byHand: edit("another name", { name: "mine" }), answer: "repaired", why: "the program defines it" },
    restricted: { byHand: edit("`restricted: false`", { restricted: false }), answer: "repaired", why: "the program defines it" },
    projects: [
      {
        byHand: edit("another project", { projects: ["shop", "default"] }),
        answer: "repaired",
        why: "a project that the program does not name",
      },
      { byHand: edit("no project", { projects: [] }), answer: "repaired", why: "a missing project" },
    ],
    description: {
      program: "of Incus",
      byHand: edit("another description", { description: "mine" }),
      answer: "repaired",
      why: "the program defines it; LXD keeps none",
    },
  },

  outputs: {
    fingerprint: { answer: "cannot drift", why: "it is that of the certificate" },
    expiresAt: { answer: "cannot drift", why: "it is that of the certificate" },
  },
});
