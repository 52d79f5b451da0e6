import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import * as components from "../../components/index";
import * as resources from "../../provider/index";
import { pack, temporaryFolder, unpack } from "../support/packed";

const ROOT = resolve(__dirname, "../..");
const execute = promisify(execFile);

/** The tsconfig.json of the project that `pulumi new typescript` makes. */
const TEMPLATE = {
  strict: true,
  outDir: "bin",
  target: "es2020",
  module: "commonjs",
  moduleResolution: "node",
  sourceMap: true,
  experimentalDecorators: true,
  pretty: true,
  noFallthroughCasesInSwitch: true,
  noImplicitReturns: true,
  forceConsistentCasingInFileNames: true,
};

const SETTINGS: Readonly<Record<string, object>> = {
  "pulumi new typescript": TEMPLATE,
  node16: { ...TEMPLATE, module: "node16", moduleResolution: "node16" },
  nodenext: { ...TEMPLATE, module: "nodenext", moduleResolution: "nodenext" },
  bundler: { ...TEMPLATE, module: "esnext", moduleResolution: "bundler" },
};

const classesOf = (exported: object): string[] => Object.keys(exported);

/** A program that uses every class, and shows that its types are not `any`. */
const PROGRAM = `
import * as pulumi from "@pulumi/pulumi";
import { ${classesOf(resources).join(", ")} } from "pulumi-lxd-cluster";
import { ${classesOf(components).join(", ")} } from "pulumi-lxd-cluster/components";

const node = new LxdNode("a", { connection: { host: "192.0.2.1" }, config: { "core.https_address": "192.0.2.1:8443" } });
const version: pulumi.Output<string> = node.lxdVersion;
// @ts-expect-error: the name of the host is required.
new LxdNode("b", { connection: {} });
export const all = [version, ${[...classesOf(resources), ...classesOf(components)].join(", ")}];
`;

describe("The types of the packed package", () => {
  const folder = temporaryFolder();

  before(() => {
    unpack(pack(folder.path), join(folder.path, "node_modules/pulumi-lxd-cluster"));
    mkdirSync(join(folder.path, "node_modules/@types"));
    for (const name of ["@pulumi", "@types/node"]) {
      symlinkSync(join(ROOT, "node_modules", name), join(folder.path, "node_modules", name));
    }
    writeFileSync(join(folder.path, "package.json"), '{ "name": "program" }');
    writeFileSync(join(folder.path, "index.ts"), PROGRAM);
  });

  after(folder.remove);

  for (const [name, compilerOptions] of Object.entries(SETTINGS)) {
    it(`compile with the settings of ${name}, and load no types of its dependencies`, async () => {
      const config = join(folder.path, `tsconfig.${name.replaceAll(" ", "-")}.json`);
      writeFileSync(config, JSON.stringify({ compilerOptions, files: ["index.ts"] }));
      const argv = [join(ROOT, "node_modules/typescript/bin/tsc"), "-p", config, "--noEmit", "--pretty", "false", "--listFiles"];
      const { stdout } = await execute(process.execPath, argv, { maxBuffer: 2 ** 24 }).catch((error: unknown) => {
        throw new Error((error as { stdout: string }).stdout.replace(/^\/.*\n/gm, ""));
      });
      const files = stdout.split("\n");
      assert.ok(files.some((file) => file.endsWith("/pulumi-lxd-cluster/dist/components/index.d.ts")));
      assert.deepEqual(
        files.filter((file) => /\/node_modules\/(zod|ssh2|@types\/ssh2|p-limit|yaml|undici)\//.test(file)),
        [],
      );
    });
  }
});
