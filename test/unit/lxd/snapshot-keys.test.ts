import assert from "node:assert/strict";
import { faultOfSnapshotKey } from "../../../provider/lxd/snapshot-keys";

describe("keys of snapshots", () => {
  const good: [key: string, values: string[]][] = [
    [
      "snapshots.schedule",
      ["", "@daily", "@hourly, @Weekly", "0 6 * * *", "*/5 0,12 1-7 jan MON", "0 6 * * *, @monthly", "@never"],
    ],
    ["snapshots.expiry", ["", "2w", "1d 12H", "1S 1M 1H 1d 1w 1m 1y", " 3d "]],
    ["snapshots.expiry.manual", ["1m"]],
    ["snapshots.pattern", ["", "snap%d", "{{ creation_date|date:'2006-01-02_15-04-05' }}"]],
    ["volume.snapshots.schedule", ["@yearly"]],
    ["user.snapshots.schedule", ["daily"]],
    ["snapshots.schedule.stopped", ["true"]],
  ];
  for (const [key, values] of good) {
    for (const value of values) {
      it(`takes ${key} "${value}"`, () => assert.equal(faultOfSnapshotKey(key, value), undefined));
    }
  }

  const bad: [key: string, values: string[], reason: RegExp][] = [
    [
      "snapshots.schedule",
      ["daily", "@dayly", "* * * *", "0 0 * * * *", "@daily,@weekly", "@daily "],
      /^must be a cron expression/,
    ],
    ["snapshots.expiry", ["2", "2 w", "2 weeks", "1h", "1d  2H", "1d 2d", "-1d"], /^must be a time such as "2w"/],
    ["volume.snapshots.expiry", ["soon"], /^must be a time/],
    ["snapshots.pattern", ["a/b"], /^must not contain slashes/],
  ];
  for (const [key, values, reason] of bad) {
    for (const value of values) {
      it(`refuses ${key} "${value}"`, () => assert.match(faultOfSnapshotKey(key, value) ?? "", reason));
    }
  }
});
