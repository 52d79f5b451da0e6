import assert from "node:assert/strict";
import { compareDebianVersions } from "../../../lab/simulated/debian-versions";

describe("Versions of Debian packages in the simulation", () => {
  it("are ordered as deb-version(7) says", () => {
    const ordered = [
      "5.0.2~rc1-1",
      "5.0.2-4",
      "5.0.2-5",
      "5.0.2-5+b3",
      "5.0.2-5+deb12u6",
      "5.0.2-5+deb12u10",
      "5.0.2+git1-1",
      "5.0.10-1",
      "1:4.0-1",
    ];
    for (const [index, version] of ordered.entries()) {
      for (const [otherIndex, other] of ordered.entries()) {
        assert.equal(compareDebianVersions(version, "lt", other), index < otherIndex, `${version} lt ${other}`);
        assert.equal(compareDebianVersions(version, "ge", other), index >= otherIndex, `${version} ge ${other}`);
      }
    }
    assert.equal(compareDebianVersions("5.0.2-5", "eq", "5.0.2-5"), true);
    assert.equal(compareDebianVersions("5.0.2-5", "like", "5.0.2-5"), undefined);
  });
});
