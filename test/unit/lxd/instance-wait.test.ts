import assert from "node:assert/strict";
import { cloudInitVerdict } from "../../../provider/lxd/instances/wait";

describe("cloudInitVerdict", () => {
  const answers: [title: string, exitCode: number, stdout: string, end: string][] = [
    ["is done", 0, "status: done\ntime: now\n", "done"],
    ["has no data when it is switched off, or found no data source", 0, "status: disabled\ndetail: by marker\n", "no-data"],
    ["distinguishes recoverable errors of 23.4 and later", 2, "status: done\nextended_status: degraded done\n", "degraded"],
    ["distinguishes degraded", 2, "status: degraded done\n", "degraded"],
    ["ends without finding LXD", 0, "status: done\ndetail:\nDataSourceNone\n", "no-data"],
    [
      "ends without finding LXD, in later versions",
      2,
      "status: done\nextended_status: degraded done\ndetail: DataSourceNone\n",
      "no-data",
    ],
    ["has failed", 1, "status: error\ndetail: ('users', KeyError)\n", "failed"],
    ["has failed where it is not installed", 127, "", "failed"],
    ["goes on while it runs", 0, "status: running\n", "pending"],
    ["goes on before it has begun", 0, "status: not run\n", "pending"],
    ["goes on before it has begun, in later versions", 0, "status: not started\n", "pending"],
    ["goes on while systemd is not up", 129, "", "pending"],
    ["goes on after an answer without a status", 1, "Failed to connect to bus\n", "pending"],
  ];
  for (const [title, exitCode, stdout, end] of answers) {
    it(title, () => {
      assert.equal(cloudInitVerdict({ exitCode, stdout, stderr: "" }).end, end);
    });
  }
});
