import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import ts from "typescript";
import * as components from "../../components/index";
import * as resources from "../../provider/index";
import { pack, temporaryFolder, unpack } from "../support/packed";

const ROOT = resolve(__dirname, "../..");

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
    it(`compile with the settings of ${name}, and load no types of its dependencies`, () => {
      const json = { compilerOptions: { ...compilerOptions, noEmit: true }, files: ["index.ts"] };
      const config = join(folder.path, "tsconfig.json"); // where types and modules are looked for
      const { options, fileNames, errors } = ts.parseJsonConfigFileContent(json, ts.sys, folder.path, {}, config);
      const program = ts.createProgram(fileNames, options);
      const files = program.getSourceFiles();
      const paths = files.map(({ fileName }) => fileName);
      const ours = files.filter(({ fileName }) => /\/pulumi-lxd-cluster\/|\/index\.ts$/.test(fileName));
      // The types of the SDK and of Node.js, which are most of the work, are not ours to check in each module system.
      const checked = compilerOptions === TEMPLATE ? [undefined] : ours;
      const problems = [...errors, ...checked.flatMap((file) => ts.getPreEmitDiagnostics(program, file))];
      assert.deepEqual(
        problems.map(({ file, messageText }) => `${file?.fileName ?? ""}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`),
        [],
      );
      assert.ok(paths.some((path) => path.endsWith("/pulumi-lxd-cluster/dist/components/index.d.ts")));
      assert.deepEqual(
        paths.filter((path) => /\/node_modules\/(zod|ssh2|@types\/ssh2|p-limit|yaml|undici)\//.test(path)),
        [],
      );
    });
  }
});
