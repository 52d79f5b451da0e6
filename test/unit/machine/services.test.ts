import assert from "node:assert/strict";
import { isAsWanted, isEnabled, isMasked } from "../../../provider/machine/init-system";
import { fullUnitName, unitIn } from "../../../provider/machine/systemd";

const shown = (values: Readonly<Record<string, string>> = {}): string =>
  Object.entries({
    Id: "app.service",
    LoadState: "loaded",
    ActiveState: "active",
    SubState: "running",
    UnitFileState: "enabled",
    Result: "success",
    ...values,
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");

describe("a unit as systemctl shows it", () => {
  const read = (values: Readonly<Record<string, string>> = {}) => unitIn(shown(values)) ?? assert.fail("it is not there");

  it("has its first name, and the states of systemd", () => {
    assert.deepEqual(read({ Id: "ssh.service", UnitFileState: "static" }), {
      id: "ssh.service",
      loadState: "loaded",
      activeState: "active",
      unitFileState: "static",
    });
  });

  it("is not there when systemd does not find it, even if it still runs", () => {
    assert.equal(unitIn(shown({ LoadState: "not-found", ActiveState: "active", UnitFileState: "" })), undefined);
  });

  it("may have no file", () => assert.equal(read({ UnitFileState: "" }).unitFileState, ""));

  it("is read whatever the order and the further properties are", () => {
    const lines = shown({ Names: "a=b c=d" }).trim().split("\n").reverse();
    assert.equal(unitIn(lines.join("\n"))?.id, "app.service");
  });

  for (const text of ["", "Failed to connect to bus", "Id=app.service\nLoadState=loaded\n"]) {
    it(`is not read from ${JSON.stringify(text)}`, () => {
      assert.throws(() => unitIn(text), { code: "response-shape" });
    });
  }

  for (const [activeState, runs, stopped] of [
    ["active", true, false],
    ["reloading", true, false],
    ["refreshing", true, false],
    ["inactive", false, true],
    ["failed", false, true],
    ["activating", false, false],
    ["deactivating", false, false],
    ["maintenance", false, false],
  ] as const) {
    it(`${runs ? "runs" : stopped ? "does not run" : "is on its way"} when it is ${activeState}`, () => {
      const unit = read({ ActiveState: activeState });
      assert.deepEqual([isAsWanted(unit, true), isAsWanted(unit, false)], [runs, stopped]);
    });
  }

  for (const [unitFileState, enabled] of [
    ["enabled", true],
    ["enabled-runtime", false],
    ["disabled", false],
    ["linked", false],
    ["static", false],
    ["indirect", false],
    ["alias", false],
    ["masked", false],
  ] as const) {
    it(`is ${enabled ? "" : "not "}started at the next boot when its file is ${unitFileState}`, () => {
      assert.equal(isEnabled(read({ UnitFileState: unitFileState })), enabled);
    });
  }

  it("is masked when systemd has loaded the mask", () => {
    assert.equal(isMasked(read({ LoadState: "masked", UnitFileState: "masked-runtime" })), true);
    assert.equal(isMasked(read()), false);
  });
});

describe("the name of a unit", () => {
  for (const [name, full] of [
    ["nginx", "nginx.service"],
    ["nginx.service", "nginx.service"],
    ["fstrim.timer", "fstrim.timer"],
    ["app@1", "app@1.service"],
    ["app@1.2", "app@1.2.service"],
    ["org.example.App", "org.example.App.service"],
  ] as const) {
    it(`is ${full} for ${name}`, () => assert.equal(fullUnitName(name), full));
  }
});
