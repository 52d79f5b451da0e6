import assert from "node:assert/strict";
import fc from "fast-check";
import { OWNER_KEY } from "../../../provider/lxd/config";
import {
  type Claim,
  claim,
  type Mark,
  newClaim,
  type Owner,
  readMark,
  takenOverBy,
  writeMark,
} from "../../../provider/lxd/ownership";

const URN = "urn:pulumi:dev::shop::pulumi-nodejs:dynamic/lxd:LxdProfile::web";

const found: Claim = {
  what: 'Profile "web" of project "default"',
  host: "root@bcn2",
  description: "it holds limits.cpu; used by 3 instances",
  config: {},
  urn: URN,
  adopt: false,
};

describe("an existing object", () => {
  it("is continued when an interrupted create of the same resource made it", () => {
    const mark = writeMark({ urn: URN, claim: newClaim(), isCreating: true });
    claim({ ...found, config: { [OWNER_KEY]: mark } });
  });

  it("is refused when a create of the same resource has finished it, because another state may contain it", () => {
    for (const own of [newClaim(), undefined]) {
      const mark = writeMark({ urn: URN, claim: own, isCreating: false });
      assert.throws(() => claim({ ...found, config: { [OWNER_KEY]: mark } }), {
        code: "refused",
        message:
          'Profile "web" of project "default" already exists on root@bcn2, complete (it holds limits.cpu; used by 3 instances), and it has ' +
          "the mark of this resource, but its state does not have it. If that state was lost, set adopt: true, which keeps the object " +
          "unchanged. If another stack's state has it (after pulumi state move, or under a renamed stack or project), run pulumi up there, " +
          "which marks it for that stack, and remove it from this program",
      });
    }
  });

  it("is adopted when the user asks for it, whoever made it", () => {
    claim({ ...found, adopt: true });
    claim({ ...found, adopt: true, config: { [OWNER_KEY]: "urn:pulumi:a::b::c::d" } });
  });

  it("is refused when Pulumi did not create it, with its description and what to do", () => {
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

  it("is not considered owned when neither the object nor the resource has a mark", () => {
    assert.throws(() => claim({ ...found, urn: "" }), /was not made by Pulumi/);
  });
});

describe("a mark", () => {
  const moved = URN.replace("dev", "prod");
  const at = (urn: string, own?: string): Mark => ({ urn, claim: own, isCreating: false });
  const [mine, theirs] = [newClaim(), newClaim()];
  const cases: [title: string, mark: Mark, owner: Owner, isTaken: boolean][] = [
    ["its own", at(URN, mine), { urn: URN, formerUrn: URN, claim: mine }, false],
    ["its own from before it was renamed", at(URN, mine), { urn: moved, formerUrn: URN, claim: mine }, false],
    ["its own from two renames ago", at(URN, mine), { urn: moved, formerUrn: `${URN}2`, claim: mine }, false],
    ["its own, by an older version", at(URN), { urn: URN, formerUrn: URN, claim: undefined }, false],
    ["its URN, claimed by another state", at(URN, theirs), { urn: URN, formerUrn: URN, claim: mine }, true],
    [
      "its URN, claimed since an older version wrote its state",
      at(URN, theirs),
      { urn: URN, formerUrn: URN, claim: undefined },
      true,
    ],
    ["its former URN, claimed by the stack that it left", at(URN, theirs), { urn: moved, formerUrn: URN, claim: mine }, true],
    ["another resource's", at(moved, theirs), { urn: URN, formerUrn: URN, claim: mine }, true],
  ];
  for (const [title, mark, owner, isTaken] of cases) {
    it(`is distinguished: ${title}`, () => {
      assert.equal(takenOverBy(writeMark(mark), owner) !== undefined, isTaken);
    });
  }

  it("is read back as written, whatever the name of the resource", () => {
    const name = fc.oneof(
      fc.string(),
      fc.constantFrom("a [0123456789abcdef]", "a [0123456789abcdef creating]", "a\nb", "a::b [x]"),
    );
    const claims = fc.constant(undefined).map(newClaim);
    fc.assert(
      fc.property(name, claims, fc.boolean(), (resource, own, isCreating) => {
        const mark = { urn: `urn:pulumi:dev::shop::t::${resource}`, claim: own, isCreating };
        assert.deepEqual(readMark(writeMark(mark)), mark);
      }),
    );
  });

  it("is not written without a URN, which identifies the owner", () => {
    assert.equal(writeMark({ urn: "", claim: mine, isCreating: true }), "");
    assert.equal(readMark(""), undefined);
  });
});
