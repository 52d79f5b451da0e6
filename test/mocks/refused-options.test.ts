import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { LxdProfile } from "../../provider";

describe("resource options that have no effect on resources of this package", () => {
  before(() =>
    pulumi.runtime.setMocks({
      newResource: ({ name, inputs }) => ({ id: name, state: inputs as Record<string, unknown> }),
      call: () => ({}),
    }),
  );

  const args = { cluster: { endpoints: [{ host: "bcn2" }] }, name: "web" };
  for (const [opts, message] of [
    [
      { import: "default/web" },
      'LxdProfile "web": the resource option import does not work for this resource; give the arguments of the object, with adopt: true',
    ],
    [
      { replaceOnChanges: ["*"] },
      'LxdProfile "web": the resource option replaceOnChanges does not work for this resource; to replace it, run pulumi up --replace with its URN',
    ],
  ] as const) {
    it(`${Object.keys(opts).join()} is refused, with what works instead`, () => {
      assert.throws(() => new LxdProfile("web", args, { ...opts } as pulumi.CustomResourceOptions), { message });
    });
  }
});
