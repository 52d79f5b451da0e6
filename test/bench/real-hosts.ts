/**
 * Runs on the lab's workstation: measures the library's overhead on top of LXD's own time when two bare hosts become a
 * cluster.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { RealLab } from "../../lab/real";
import { LxdClusterMember, LxdNode } from "../../provider/index";
import { EngineStack } from "../engine/workspace";
import { judge, median, say, secondsOf } from "./measure";

const ROUNDS = 3;
const SLOWEST_RATIO = 1.25;

const PRIMARY = { name: "bcn2", address: "192.168.1.102" };
const SECONDARY = { name: "bcn1", address: "192.168.1.101" };

/** Seconds of each step. */
interface Steps {
  readonly install: number;
  readonly bootstrap: number;
  readonly join: number;
}

/** The same work with LXD's own tools; each command runs on the host itself. */
async function byLxd(lab: RealLab): Promise<Steps> {
  const onHost = async (name: string, argv: readonly string[], stdin = ""): Promise<string> => {
    const result = await lab.hostExec(name, ["sh", "-c", 'input=$1; shift; printf %s "$input" | "$@"', "sh", stdin, ...argv]);
    if (result.exitCode !== 0) {
      throw new Error(`${argv.join(" ")} on ${name}: ${result.stderr}`);
    }
    return result.stdout;
  };
  const install = await secondsOf(() =>
    Promise.all(
      [PRIMARY, SECONDARY].map(async ({ name }) => {
        await onHost(name, ["apt-get", "--quiet", "update"]);
        await onHost(name, ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--yes", "install", "lxd"]);
        await onHost(name, ["lxd", "waitready"]);
      }),
    ),
  );
  const bootstrap = await secondsOf(() =>
    onHost(
      PRIMARY.name,
      ["lxd", "init", "--preseed"],
      `config: {core.https_address: "${PRIMARY.address}:8443"}\ncluster: {server_name: ${PRIMARY.name}, enabled: true}\n`,
    ),
  );
  const join = await secondsOf(async () => {
    const token =
      (await onHost(PRIMARY.name, ["lxc", "cluster", "add", SECONDARY.name, "--quiet"])).trim().split("\n").at(-1) ?? "";
    const preseed = `cluster: {enabled: true, server_address: "${SECONDARY.address}:8443", cluster_token: ${token}}\n`;
    await onHost(SECONDARY.name, ["lxd", "init", "--preseed"], preseed);
  });
  return { install, bootstrap, join };
}

/** One `pulumi up` from bare hosts. */
async function byPulumi(lab: RealLab): Promise<Steps & { whole: number }> {
  const privateKey = readFileSync(join(lab.home, ".ssh/id_ed25519"), "utf8");
  const connectionTo = (name: string) => {
    const { address: host, hostKey } = lab.hosts.find((each) => each.name === name) ?? { address: "", hostKey: "" };
    return { host, hostKey, privateKey };
  };
  const stack = await EngineStack.open();
  try {
    stack.define(() => {
      const nodes = [PRIMARY, SECONDARY].map(({ name, address }) => {
        const config = { "core.https_address": `${address}:8443` };
        return new LxdNode(name, { connection: connectionTo(name), install: { method: "deb" }, config });
      });
      const [primary, secondary] = nodes;
      if (primary !== undefined && secondary !== undefined) {
        const first = new LxdClusterMember(PRIMARY.name, { ...PRIMARY, connection: primary.connection });
        const cluster = { endpoints: [first.connection] };
        new LxdClusterMember(SECONDARY.name, { ...SECONDARY, connection: secondary.connection, cluster });
      }
    });
    const run = await stack.up();
    if (!run.ok) {
      throw new Error(run.text);
    }
    const of = (resource: string): number => run.seconds[resource] ?? Number.NaN;
    return {
      install: Math.max(of("LxdNode bcn2"), of("LxdNode bcn1")),
      bootstrap: of("LxdClusterMember bcn2"),
      join: of("LxdClusterMember bcn1"),
      whole: of("Stack engine-tests-test"),
    };
  } finally {
    stack.close();
  }
}

async function main(): Promise<number> {
  const lab = await RealLab.attach();
  const [lxd, pulumi]: [Steps[], (Steps & { whole: number })[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    lxd.push(await byLxd(lab));
    await lab.resetHosts();
    pulumi.push(await byPulumi(lab));
    await lab.resetHosts();
  }
  console.log(`\n\`up\` from two bare hosts, seconds, median of ${ROUNDS}`);
  say("step        LXD's own tools   pulumi up");
  const [theirs, ours] = [lxd, pulumi].map(
    (rounds: readonly Steps[]): Steps => ({
      install: median(rounds.map(({ install }) => install)),
      bootstrap: median(rounds.map(({ bootstrap }) => bootstrap)),
      join: median(rounds.map(({ join: seconds }) => seconds)),
    }),
  );
  if (theirs === undefined || ours === undefined) {
    return 1;
  }
  for (const step of ["install", "bootstrap", "join"] as const) {
    say(`${step.padEnd(12)}${theirs[step].toFixed(2).padStart(15)}${ours[step].toFixed(2).padStart(12)}`);
  }
  const ratio = (ours.bootstrap + ours.join) / (theirs.bootstrap + theirs.join);
  return judge("bootstrap and join, ratio to LXD's own time", ratio, SLOWEST_RATIO) ? 0 : 1;
}

main().then(
  (exitCode) => process.exit(exitCode),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
