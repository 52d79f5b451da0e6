/**
 * `npm run kill-rounds -- [--rounds 20] [--seed N]`: kills `pulumi up` at random moments on its own hosts. A seed
 * repeats the moments.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { rounds, seed } = parseArgs({ options: { rounds: { type: "string" }, seed: { type: "string" } } }).values;
const repository = join(__dirname, "../..");
const lab = [
  "--require",
  "tsx/cjs",
  join(repository, "lab/real/cli.ts"),
  "run",
  "--instance",
  "kills",
  "--hosts",
  "bcn2,bcn1",
  "--",
];
const mocha = [
  process.execPath,
  join(repository, "node_modules/mocha/bin/mocha.js"),
  "--exit",
  "--timeout",
  "600s",
  "--grep",
  "by SIGKILL",
];
const { status } = spawnSync(process.execPath, [...lab, ...mocha, join(__dirname, "kills.test.ts")], {
  stdio: "inherit",
  cwd: repository,
  env: { ...process.env, KILL_ROUNDS: rounds ?? "20", ...(seed !== undefined && { KILL_SEED: seed }) },
});
process.exit(status ?? 1);
