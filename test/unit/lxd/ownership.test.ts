import assert from "node:assert/strict";
import { OWNER_KEY } from "../../../provider/lxd/config";
import { type Claim, claim } from "../../../provider/lxd/ownership";

const URN = "urn:pulumi:dev::shop::pulumi-nodejs:dynamic/lxd:LxdProfile::web";

const found: Claim = {
  what: 'Profile "web" of project "default"',
  host: "root@bcn2",
  description: "it holds limits.cpu; used by 3 instances",
  config: {},
  urn: URN,
  adopt: false,
};

describe("an object that is already there", () => {
  it("is gone on with when an interrupted create of the same resource made it", () => {
    claim({ ...found, config: { [OWNER_KEY]: URN } });
  });

  it("is taken over when the user says so, whoever made it", () => {
    claim({ ...found, adopt: true });
    claim({ ...found, adopt: true, config: { [OWNER_KEY]: "urn:pulumi:a::b::c::d" } });
  });

  it("is refused when Pulumi did not make it, with what it is and what to do", () => {
    assert.throws(() => claim(found), {
      code: "refused",
      message:
        'Profile "web" of project "default" already exists on root@bcn2 and it was not made by Pulumi (it holds limits.cpu; used by 3 ' +
        "instances). Set adopt: true to manage it from here without recreating it, choose another name, or remove it first",
    });
  });

  it("is refused when it belongs to another resource, which is named", () => {
    assert.throws(() => claim({ ...found, config: { [OWNER_KEY]: URN.replace("dev", "prod") } }), {
      code: "refused",
      message:
        'Profile "web" of project "default" already exists on root@bcn2 and it belongs to the Pulumi resource "web" of stack "prod", project ' +
        '"shop" (it holds limits.cpu; used by 3 instances). Set adopt: true to manage it from here without recreating it, choose another name, ' +
        "or remove it first",
    });
  });

  it("is not taken for one's own when neither the object nor the resource says whose it is", () => {
    assert.throws(() => claim({ ...found, urn: "" }), /was not made by Pulumi/);
  });
});
