import assert from "node:assert/strict";
import fc from "fast-check";
import type * as z from "zod";
import { api } from "../../../provider/lxd/client/client";
import {
  instanceNameSchema,
  isListener,
  memberAddressSchema,
  memberNameSchema,
  poolNameSchema,
  profileNameSchema,
  projectSchema,
} from "../../../provider/lxd/names";

const accepts = (schema: z.ZodType, text: string): boolean => schema.safeParse(text).success;

describe("names", () => {
  const table: readonly (readonly [string, z.ZodType, readonly string[], readonly string[]])[] = [
    ["of profiles", profileNameSchema, ["default", "a b", "user.team@corp", "ä", "-a"], ["", ".", "..", "a/b", "a\n", "\ud800"]],
    ["of pools", poolNameSchema, ["default", "a?b", "ä", "a".repeat(64)], ["", ".", "..", "a b", "a/b", "a\n", "\ud800"]],
    ["of projects", projectSchema, ["default", "a:b", "ä"], ["", ".", "..", "a b", "a/b", "a_b", "a'b", "\ud800"]],
    [
      "of instances",
      instanceNameSchema,
      ["web1", "1web", "W", "a-b", "a".repeat(63)],
      ["", "123", "-web", "web-", "web.1", "web_1", "a".repeat(64), "web1\n"],
    ],
    [
      "of members",
      memberNameSchema,
      ["bcn1", "1", "bcn1.example.org", "bcn_1", "-bcn", "a".repeat(64)],
      ["", "none", ".", "..", "@bcn", "bcn 1", "bcn/1", "bcn1\n"],
    ],
  ];
  for (const [what, schema, good, bad] of table) {
    it(`${what} are accepted as LXD accepts them`, () => {
      assert.deepEqual(
        good.filter((name) => !accepts(schema, name)),
        [],
      );
      assert.deepEqual(
        bad.filter((name) => accepts(schema, name)),
        [],
      );
    });
  }

  it("in a URL segment cannot change the path", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        for (const schema of [profileNameSchema, poolNameSchema, projectSchema, instanceNameSchema, memberNameSchema]) {
          assert.ok(!accepts(schema, text) || api`/1.0/x/${text}`.split("/").length === 4);
        }
      }),
    );
  });

  it("of a project are `default` when none is given", () => {
    assert.equal(projectSchema.parse(undefined), "default");
  });
});

describe("the address of a member", () => {
  for (const [written, meant] of [
    ["192.168.1.102", "192.168.1.102:8443"],
    ["192.168.1.102:8444", "192.168.1.102:8444"],
    ["bcn2.example.org", "bcn2.example.org:8443"],
    ["fd00::2", "[fd00::2]:8443"],
    ["fd00::2:8444", "[fd00::2:8444]:8443"], // as LXD reads it
    ["::ffff:192.168.1.102", "[::ffff:192.168.1.102]:8443"],
    ["[fd00::2]", "[fd00::2]:8443"],
    ["[fd00::2]:8444", "[fd00::2]:8444"],
  ] as const) {
    it(`${written} is ${meant}`, () => {
      assert.equal(memberAddressSchema.parse(written), meant);
      assert.equal(memberAddressSchema.parse(meant), meant);
    });
  }

  for (const wildcard of ["0.0.0.0", "0.0.0.0:8443", "[::]", "[::]:8443", "::", "0::0", "[0:0:0:0:0:0:0:0]", "*", ":8443", ""]) {
    it(`${JSON.stringify(wildcard)} is refused, because the others could not find the member there`, () => {
      assert.equal(
        memberAddressSchema.safeParse(wildcard).error?.issues[0]?.message,
        'must be one address of the host, such as "192.168.1.102", not a wildcard',
      );
      assert.ok(isListener(wildcard));
    });
  }

  for (const bad of [
    ...["10.0.0.1/24", "https://bcn2:8443", "bcn 2", "bcn2:port", "bcn2:", "bcn2:65536", "192.168.1.300", "192.168.1.300:8443"],
    ...["fd00::2::3", "[fd00::2::3]", "[fd00::2", "[bcn2]:8443", "[fd00::2]:", "fe80::1%eth0", "[fe80::1%eth0]:8443"],
  ]) {
    it(`${bad} is refused as no address`, () => {
      assert.equal(
        memberAddressSchema.safeParse(bad).error?.issues.at(-1)?.message,
        'is not an address such as "192.168.1.102", "192.168.1.102:8443" or "[fd00::2]:8443"',
      );
      assert.ok(!isListener(bad));
    });
  }
});
