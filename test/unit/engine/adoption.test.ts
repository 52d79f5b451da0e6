import assert from "node:assert/strict";
import { describeChanges } from "../../../provider/engine/adoption";

const SECRET = "correct-horse-battery";

/** Names that a program or LXD may use for a secret. */
const CONFIG_KEYS = [
  "bgp.peers.upstream.password",
  "environment.TOKEN",
  "user.note",
  "cloud-init.user-data",
  "cloud-init.network-config",
  "raw.lxc",
  "loki.auth.password",
  "core.trust_password",
  "oidc.client.secret",
  "maas.api.key",
];
const PROPERTIES: Readonly<Record<string, unknown>> = {
  cloudInit: { userData: SECRET, vendorData: SECRET, networkConfig: SECRET },
  passwordHash: SECRET,
  authorizedKeys: [SECRET],
};

describe("the preview of an adoption names what changes, and shows no value of", () => {
  for (const key of CONFIG_KEYS) {
    it(`config.${key}, whichever side has it`, () => {
      for (const [live, wanted] of [
        [{ [key]: SECRET }, { [key]: "another-secret" }],
        [{ [key]: SECRET }, {}],
        [{}, { [key]: SECRET }],
      ]) {
        assert.deepEqual(describeChanges(["config"], { config: live }, { config: wanted }), [`config.${key}`]);
      }
      const [change = ""] = describeChanges(["config"], {}, { config: { [key]: SECRET } });
      assert.doesNotMatch(change, /horse|another/);
    });
  }

  for (const [name, value] of Object.entries(PROPERTIES)) {
    it(`${name}, whichever side has it`, () => {
      for (const [live, wanted] of [
        [{ [name]: value }, {}],
        [{}, { [name]: value }],
      ] as const) {
        assert.deepEqual(describeChanges([name], live, wanted), [name]);
      }
    });
  }

  it("nothing else", () => {
    const [live, wanted] = [{ config: { "limits.cpu": "2" } }, { config: { "limits.cpu": "4" } }];
    assert.deepEqual(describeChanges(["config"], live, wanted), ['config.limits.cpu "2" -> "4"']);
  });
});
