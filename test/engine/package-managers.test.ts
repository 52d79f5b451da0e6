import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { pulumiRoot } from "../../tools/paths";
import { folderInModules, pack, temporaryFolder, unpack } from "../support/packed";

const ROOT = resolve(__dirname, "../..");
const execute = promisify(execFile);
const { devDependencies, peerDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
  devDependencies: Record<string, string>;
  peerDependencies: Record<string, string>;
};
const NEWEST = devDependencies["@pulumi/pulumi"] ?? "";
const OLDEST = peerDependencies["@pulumi/pulumi"]?.replace("^", "") ?? "";
const TYPESCRIPT = devDependencies["typescript"] ?? "";

/** `PACKAGE_MANAGERS=1`, as by night. Each of these cases installs an SDK from the registry. */
const INSTALLS = process.env["PACKAGE_MANAGERS"] !== undefined;

const NPM = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"];
const PNPM = ["npx", "--yes", "pnpm@10", "install", "--no-frozen-lockfile", "--config.node-linker=isolated"];
const YARN = ["npx", "--yes", "@yarnpkg/cli-dist@4", "install", "--no-immutable"];

const RESOURCE = 'new LxdProfile("web", { cluster: { endpoints: [{ host: "192.0.2.1" }] }, name: "web" });\n';
const IMPORT = 'import { LxdProfile } from "pulumi-lxd-cluster";\n';
const REQUIRE = 'const { LxdProfile } = require("pulumi-lxd-cluster");\n';
const WRAPPER = "module.exports = require('pulumi-lxd-cluster');\n";
const AUTOMATION = (program: string): string => `
const { LocalWorkspace } = require("@pulumi/pulumi/automation");
const { LxdProfile } = require("pulumi-lxd-cluster");
(async () => {
  const stack = await LocalWorkspace.createOrSelectStack({ stackName: "test", ${program} }, { workDir: __dirname });
  await stack.preview({ onOutput: (text) => process.stdout.write(text) });
})().catch((error) => { console.log(error.message); process.exitCode = 1; });
`;

interface Case {
  /** Files of the project besides those that every project has. `TARBALL` stands for the path of the packed package. */
  readonly files: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  /** Further members of package.json. */
  readonly manifest?: object;
  /** Options of the runtime in Pulumi.yaml. */
  readonly runtime?: object;
  readonly main?: string;
  /** Runs after `install`, in the project. */
  readonly build?: readonly string[];
  /** The package manager's command; or where the packed package is put by hand, with the SDK of this repository beside it. */
  readonly install?: readonly string[] | string;
  /** Environment of the preview. */
  readonly env?: Readonly<Record<string, string>>;
  /** Runs in place of `pulumi preview`. */
  readonly preview?: readonly string[];
  readonly sdk?: string;
  /** The program is told what to install. */
  readonly isRefused?: true;
}

const DIRECT = { "pulumi-lxd-cluster": "file:TARBALL" };
const TYPESCRIPT_PROGRAM: Case = { files: { "index.ts": `${IMPORT}${RESOURCE}` }, dependencies: DIRECT };
const WRAPPED = { "wrapper/package.json": manifest("wrapper", DIRECT), "wrapper/index.js": WRAPPER };
const WRAPPER_PROGRAM = { "index.js": REQUIRE.replace("pulumi-lxd-cluster", "wrapper") + RESOURCE };
const ESBUILD = ["npx", "--yes", "esbuild@0.28", "main.ts", "--bundle", "--platform=node", "--outfile=index.js"];

const BY_HAND: Readonly<Record<string, Case>> = {
  "a program with the package": {
    files: { "index.js": `${REQUIRE}${RESOURCE}` },
    runtime: { typescript: false },
    install: "node_modules/pulumi-lxd-cluster",
  },
  "a program that has the package through a link": {
    files: { "index.js": REQUIRE.replace("pulumi-lxd-cluster", "./wrapper") + RESOURCE, "wrapper/index.js": WRAPPER },
    runtime: { typescript: false },
    install: "wrapper/node_modules/pulumi-lxd-cluster",
    isRefused: true,
  },
};

const CASES: Readonly<Record<string, Case>> = {
  npm: TYPESCRIPT_PROGRAM,
  "the oldest SDK": { ...TYPESCRIPT_PROGRAM, sdk: OLDEST },
  "pnpm, strict": { ...TYPESCRIPT_PROGRAM, install: PNPM },
  "pnpm, strict, with the oldest SDK": { ...TYPESCRIPT_PROGRAM, install: PNPM, sdk: OLDEST },
  "Yarn with node_modules": {
    ...TYPESCRIPT_PROGRAM,
    files: { ...TYPESCRIPT_PROGRAM.files, ".yarnrc.yml": "nodeLinker: node-modules\n", "yarn.lock": "" },
    install: YARN,
  },
  "a workspace of npm with a wrapper package": {
    files: { ...WRAPPED, ...WRAPPER_PROGRAM },
    dependencies: { wrapper: "*" },
    manifest: { workspaces: ["wrapper"] },
  },
  "a workspace of pnpm with a wrapper package": {
    files: { ...WRAPPED, ...WRAPPER_PROGRAM, "pnpm-workspace.yaml": "packages: [wrapper]\n" },
    dependencies: { wrapper: "workspace:*" },
    install: PNPM,
  },
  "main: in another folder": {
    ...TYPESCRIPT_PROGRAM,
    files: { "infra/index.ts": `${IMPORT}${RESOURCE}` },
    main: "infra/index.ts",
  },
  "plain JavaScript": { files: { "index.js": `${REQUIRE}${RESOURCE}` }, dependencies: DIRECT, runtime: { typescript: false } },
  "an ES module with tsx": {
    files: { "index.ts": `${IMPORT}${RESOURCE}` },
    dependencies: { ...DIRECT, tsx: devDependencies["tsx"] ?? "" },
    manifest: { type: "module", main: "index.ts" },
    runtime: { typescript: false },
    // In place of the runtime's option nodeargs, which the language host that is built from Go modules does not have.
    env: { NODE_OPTIONS: "--import=tsx" },
  },
  "a bundle of esbuild that leaves the package out": {
    files: { "main.ts": `${IMPORT}${RESOURCE}` },
    dependencies: DIRECT,
    build: [...ESBUILD, "--external:pulumi-lxd-cluster", "--external:@pulumi/pulumi"],
    runtime: { typescript: false },
  },
  "a bundle of esbuild in a deployment without the package": {
    files: { "main.ts": `${IMPORT}${RESOURCE}` },
    dependencies: DIRECT,
    build: [
      "sh",
      "-c",
      `${ESBUILD.join(" ")} --external:@pulumi/pulumi --external:*.node && rm -r node_modules/pulumi-lxd-cluster`,
    ],
    runtime: { typescript: false },
    isRefused: true,
  },
  "a wrapper package that the program links to": {
    files: { ...WRAPPED, ...WRAPPER_PROGRAM },
    build: ["sh", "-c", `cd wrapper && ${NPM.join(" ")} && ln -s ../wrapper ../node_modules/wrapper`],
    runtime: { typescript: false },
    isRefused: true,
  },
  "the Automation API with a local program": {
    files: { "index.js": `${REQUIRE}${RESOURCE}`, "run.js": AUTOMATION("workDir: __dirname") },
    dependencies: DIRECT,
    runtime: { typescript: false },
    preview: ["node", "run.js"],
  },
  "the Automation API with an inline program": {
    files: { "run.js": AUTOMATION(`projectName: "test", program: async () => { ${RESOURCE.trim()} }`) },
    dependencies: DIRECT,
    preview: ["node", "run.js"],
  },
};

function manifest(name: string, dependencies: object, more: object = {}): string {
  return JSON.stringify({ name, version: "1.0.0", private: true, dependencies, ...more });
}

describe("a program with the packed package", () => {
  const folder = INSTALLS ? temporaryFolder() : folderInModules();
  let tarball = "";

  before(() => {
    tarball = pack(folder.path);
  });

  after(folder.remove);

  for (const [name, project] of Object.entries(INSTALLS ? CASES : BY_HAND)) {
    const end = project.isRefused === undefined ? "has a preview" : "is told what to install where";
    it(`${end}: ${name}`, async () => {
      const at = join(folder.path, name.replaceAll(/\W+/g, "-"));
      const env = {
        ...process.env,
        PATH: `${join(pulumiRoot(), "bin")}:${process.env["PATH"] ?? ""}`,
        PULUMI_BACKEND_URL: `file://${at}/state`,
        PULUMI_HOME: join(folder.path, "pulumi-home"),
        PULUMI_CONFIG_PASSPHRASE: "test",
        PULUMI_SKIP_UPDATE_CHECK: "true",
        PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
      };
      write(at, tarball, project);
      const { install = NPM, build } = project;
      if (typeof install === "string") {
        unpack(tarball, join(at, install));
        mkdirSync(join(at, "node_modules"), { recursive: true });
        symlinkSync(join(ROOT, "node_modules/@pulumi"), join(at, "node_modules/@pulumi"));
      } else {
        run(install, at, env);
      }
      if (build !== undefined) {
        run(build, at, env);
      }
      if (project.preview === undefined) {
        run(["pulumi", "stack", "init", "test", "--non-interactive"], at, env);
      }
      const [program = "", ...args] = project.preview ?? ["pulumi", "preview", "--non-interactive", "--color", "never"];
      const text = await execute(program, args, { cwd: at, env: { ...env, ...project.env } }).then(
        ({ stdout }) => stdout,
        (error: unknown) => (error as { stdout: string; stderr: string }).stdout + (error as { stderr: string }).stderr,
      );
      if (project.isRefused === undefined) {
        assert.match(text, /\+ 2 to create/);
      } else {
        assert.match(text, new RegExp(`Pulumi does not find pulumi-lxd-cluster: run npm install pulumi-lxd-cluster in ${at}\\n`));
        assert.doesNotMatch(text, /\n\s+at /);
      }
    }).timeout("10m");
  }
});

function write(at: string, tarball: string, { files, dependencies, manifest: more, runtime, main, sdk = NEWEST }: Case): void {
  const all = { "@pulumi/pulumi": sdk, typescript: TYPESCRIPT, "@types/node": devDependencies["@types/node"], ...dependencies };
  const settings = { name: "test", runtime: { name: "nodejs", options: runtime ?? {} }, ...(main && { main }) };
  const project = {
    "package.json": manifest("program", all, more),
    "Pulumi.yaml": JSON.stringify(settings),
    "tsconfig.json": JSON.stringify({
      compilerOptions: { target: "es2020", module: "commonjs", moduleResolution: "node", strict: true },
    }),
    ...files,
  };
  mkdirSync(join(at, "state"), { recursive: true });
  for (const [path, text] of Object.entries(project)) {
    mkdirSync(dirname(join(at, path)), { recursive: true });
    writeFileSync(join(at, path), text.replaceAll("TARBALL", tarball));
  }
}

function run([program = "", ...args]: readonly string[], cwd: string, env: NodeJS.ProcessEnv): void {
  execFileSync(program, args, { cwd, env, stdio: "pipe" });
}
