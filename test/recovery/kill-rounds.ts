/**
 * `npm run kill-rounds -- [--rounds 20] [--seed N]`: kills `pulumi up` at random moments on hosts of its own. A seed repeats the moments.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { rounds = "20", seed } = parseArgs({ options: { rounds: { type: "string" }, seed: { type: "string" } } }).values;
const repository = join(__dirname, "../..");
const node = [process.execPath, "--require", "tsx/cjs"];
const lab = [...node, join(repository, "lab/real/cli.ts"), "run", "--instance", "kills", "--hosts", "bcn2,bcn1", "--"];
const mocha = [process.execPath, join(repository, "node_modules/mocha/bin/mocha.js"), "--exit", "--grep", "by SIGKILL"];
const [program = "", ...argv] = [...lab, ...mocha, join(__dirname, "kills.test.ts")];
const { status } = spawnSync(program, argv, {
  stdio: "inherit",
  cwd: repository,
  env: { ...process.env, KILL_ROUNDS: rounds, ...(seed !== undefined && { KILL_SEED: seed }) },
});
process.exit(status ?? 1);
