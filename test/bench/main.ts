/**
 * Measures the library's overhead on top of LXD's and Pulumi's own time. Uses ratios within one run, because absolute
 * times
 * depend on the machine. Exits with 1 if a limit is exceeded.
 * Usage: npm run bench [-- --simulated]
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { RealLab } from "../../lab/real";
import { benchClusters } from "./clusters";
import { benchSimulated } from "./simulated";

/** On the lab's workstation, from where the hosts can be reached. */
function benchRealHosts(): boolean {
  const node = [process.execPath, "--require", "tsx/cjs"];
  const lab = [...node, join(__dirname, "../../lab/real/cli.ts"), "run", "--instance", "bench", "--hosts", "bcn2,bcn1", "--"];
  const [program, ...argv] = [...lab, ...node, join(__dirname, "real-hosts.ts")];
  return spawnSync(program, argv, { stdio: "inherit" }).status === 0;
}

async function main(argv: readonly string[]): Promise<number> {
  const results = [await benchSimulated(), await benchClusters()];
  const unable = argv.includes("--simulated") ? "not requested" : RealLab.available();
  if (unable === undefined) {
    results.push(benchRealHosts());
  } else {
    console.log(`\nNo measurements on real hosts: ${unable}.`);
  }
  return results.every((kept) => kept) ? 0 : 1;
}

main(process.argv.slice(2)).then(
  (exitCode) => process.exit(exitCode),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
