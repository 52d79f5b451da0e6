import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { compileFunction } from "node:vm";
import { utils } from "ssh2";
import ts from "typescript";
import * as components from "../../components/index";
import { provider } from "../../provider/entry";
import * as resources from "../../provider/index";
import { type Recording, record } from "./program";

const ROOT = join(__dirname, "../..");
const DOCUMENTS = [
  "README.md",
  "CONTRIBUTING.md",
  "lab/README.md",
  ...pages("docs"),
  ...pages("docs/guide"),
  ...pages("docs/adr"),
];

/** What the fragments of the guide take for granted, on one line, so that the numbers of the lines stay. */
const TAKEN_FOR_GRANTED = [
  'import * as pulumi from "@pulumi/pulumi";',
  'import { type ClusterConnectionArgs, HostCommand, HostFile, HostPackages, HostSysctls, HostUser, LxdClusterGroup, LxdClusterMember, LxdImage, LxdNetwork, LxdNetworkAcl, LxdNetworkForward, LxdNode, LxdProject, LxdServerConfig, LxdStoragePool, LxdStorageVolume, LxdTrustCertificate, LxdVm, VmCommand, VmFile, VmPackages, VmService, VmUser } from "pulumi-lxd-cluster";',
  'import { type ClusterHostArgs, LxdCluster, VmGroup } from "pulumi-lxd-cluster/components";',
  "declare const cluster: pulumi.Output<ClusterConnectionArgs>;",
  "declare const ciCertificate: string;",
  "declare const hosts: ClusterHostArgs[];",
].join(" ");

function pages(folder: string): string[] {
  const names = readdirSync(join(ROOT, folder)).filter((name) => name.endsWith(".md"));
  return names.map((name) => `${folder}/${name}`);
}

/** Links of the README are absolute, because npm shows it too. */
const HOME =
  /https:\/\/(?:github\.com\/pulumi-lxd-cluster\/pulumi-lxd-cluster\/blob|raw\.githubusercontent\.com\/pulumi-lxd-cluster\/pulumi-lxd-cluster)\/main\//g;

/** The text of a document, with relative links to the files of this repository. */
function textOf(document: string): string {
  return readFileSync(join(ROOT, document), "utf8").replaceAll(HOME, "");
}

/** The TypeScript in a document. */
function programsIn(document: string): string[] {
  return [...textOf(document).matchAll(/^```typescript\n([\s\S]*?)^```/gm)].map(([, program]) => program ?? "");
}

/** What the compiler has to say about programs that have the package installed, as lines for a person. */
function complaintsAbout(programs: ReadonlyMap<string, string>): string[] {
  const options: ts.CompilerOptions = {
    ...{ strict: true, noEmit: true, skipLibCheck: true, esModuleInterop: true, types: ["node"] },
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.Node16,
    moduleResolution: ts.ModuleResolutionKind.Node16,
  };
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists, getSourceFile } = host;
  host.readFile = (path) => programs.get(path) ?? readFile(path);
  host.fileExists = (path) => programs.has(path) || fileExists(path);
  host.getSourceFile = (path, version, ...rest) => {
    const program = programs.get(path);
    return program === undefined ? getSourceFile(path, version, ...rest) : ts.createSourceFile(path, program, version);
  };
  return ts.getPreEmitDiagnostics(ts.createProgram([...programs.keys()], options, host)).map(({ file, start, messageText }) => {
    const line = file === undefined ? 0 : file.getLineAndCharacterOfPosition(start ?? 0).line + 1;
    return `${file?.fileName ?? ""}:${line} ${ts.flattenDiagnosticMessageText(messageText, "\n")}`;
  });
}

function runExample(program: string): Promise<Recording> {
  const { outputText } = ts.transpileModule(program, { compilerOptions: { module: ts.ModuleKind.CommonJS } });
  const run = compileFunction(outputText, ["require", "exports"]) as (load: NodeJS.Require, exported: object) => void;
  return record("test", () => run(createRequire(join(ROOT, "index.ts")), {}));
}

/** The anchors of a document's headings, as they are made of them where documents are shown. */
function anchorsIn(document: string): string[] {
  const headings = [...textOf(document).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => heading.toLowerCase());
  return headings.map((heading) => heading.replace(/[^\p{L}\p{N} -]/gu, "").replaceAll(" ", "-"));
}

describe("The documents", () => {
  it("hold programs that compile", () => {
    const programs = DOCUMENTS.flatMap((document) =>
      programsIn(document).map((program, index): [string, string] => [
        join(ROOT, `${document}-${index + 1}.ts`),
        `${program.includes("import ") ? "" : TAKEN_FOR_GRANTED}${program}`,
      ]),
    );
    assert.ok(programs.length >= 5, `only ${programs.length} programs were found`);
    assert.deepEqual(complaintsAbout(new Map(programs)), []);
  }).timeout("60s");

  it("link to pages and headings that exist", () => {
    const broken = DOCUMENTS.flatMap((document) =>
      [...textOf(document).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)].flatMap(([, path = "", anchor]) => {
        const target = path === "" ? document : join(dirname(document), path);
        const found = existsSync(join(ROOT, target)) && (anchor === undefined || anchorsIn(target).includes(anchor));
        return found ? [] : [`${document}: ${path}${anchor === undefined ? "" : `#${anchor}`}`];
      }),
    );
    assert.deepEqual(broken, []);
  });

  it("name only commands of npm that exist", () => {
    const { scripts } = JSON.parse(textOf("package.json")) as { scripts: Record<string, string> };
    const named = DOCUMENTS.flatMap((document) =>
      [...textOf(document).matchAll(/npm run ([a-z-]+)/g)].map(([, script = ""]) => script),
    );
    assert.ok(named.includes("demo"));
    assert.deepEqual(
      named.filter((script) => !(script in scripts)),
      [],
    );
  });
});

describe("The guide's page of recipes", () => {
  const recipes = textOf("docs/guide/troubleshooting.md").split(/^## /m).slice(1);

  it("names the tests that prove each recipe", () => {
    assert.ok(recipes.length >= 10, `only ${recipes.length} recipes were found`);
    const unproved = recipes.filter((recipe) => !/^Proved by \[test\/[\w./-]+\.test\.ts\]\(/m.test(recipe));
    assert.deepEqual(
      unproved.map((recipe) => recipe.slice(0, recipe.indexOf("\n"))),
      [],
    );
  });
});

/** What the texts of a program say; what stands in for a value in them is left out. */
function textsIn(path: string): string {
  const texts = (node: ts.Node): string => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      return node.text;
    }
    let all = "";
    ts.forEachChild(node, (child) => {
      all += texts(child);
    });
    return all;
  };
  return texts(ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.ES2022));
}

describe("The messages in the guide's tables", () => {
  /** Of Pulumi itself, or of sshd. */
  const OTHERS = [
    "error: update canceled",
    "the stack is currently locked",
    "pending operations",
    "Too many authentication failures",
  ];

  it("are those that a person sees", () => {
    const files = readdirSync(join(ROOT, "provider"), { recursive: true, encoding: "utf8" }).filter((file) =>
      file.endsWith(".ts"),
    );
    const said = files.map((file) => textsIn(join(ROOT, "provider", file))).join("\n");
    const cells = [...textOf("docs/guide/troubleshooting.md").matchAll(/^\| (.*?) \| /gm)].map(([, cell = ""]) => cell);
    const quoted = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, message = ""]) => message));
    assert.ok(quoted.length > 30, `only ${quoted.length} messages were found`);
    // What is between names and values of the example, and between its sentences and clauses, is ours. The server's name is one of the values.
    const clauses = quoted
      .filter((message) => !OTHERS.includes(message))
      .flatMap((message) =>
        message.split(/…|[.,:;] |[.,:;]$|"|\b(?:bcn[12]|lxdbr0|instances c1|Offline|LXD(?: on)?)\b|\/var\/lib\/[\w-]+/),
      )
      .map((clause) => clause.trim())
      .filter((clause) => clause.includes(" "));
    assert.deepEqual(
      clauses.filter((clause) => !said.includes(clause)),
      [],
    );
  });
});

describe("The README", () => {
  it("has links that work on npm's page, too", () => {
    const readme = readFileSync(join(ROOT, "README.md"), "utf8");
    assert.deepEqual(readme.match(/\]\((?!https?:|#)[^)]*\)/g), null);
  });

  const placeholder = "ssh-ed25519 AAAA... alice";

  it("has every resource and component in its tables", () => {
    const classes = [...Object.keys(resources).filter((name) => name !== "LxdResource"), ...Object.keys(components)];
    const cells = [...textOf("README.md").matchAll(/^\| (`[A-Z]\w+`(?:, `\w+`)*) \|/gm)].map(([, cell = ""]) => cell);
    const rows = cells.flatMap((cell) => cell.replaceAll("`", "").split(", ")); // a pair of kinds has one row
    assert.deepEqual(rows.sort(), classes.sort());
  });

  it("begins with an example that makes a cluster, a machine and its user", async () => {
    const [example = ""] = programsIn("README.md");
    const { resources: made, find } = await runExample(example);
    assert.deepEqual(made.map(({ id }) => id).sort(), [
      "LxdCluster home",
      "LxdClusterMember home-bcn1",
      "LxdClusterMember home-bcn2",
      "LxdNetwork home-lxdbr0",
      "LxdNode home-bcn1",
      "LxdNode home-bcn2",
      "LxdStoragePool home-default",
      "LxdVm web",
      "VmUser alice",
    ]);
    assert.equal(find("VmUser alice").deletedWith, "LxdVm web");
    assert.ok(find("LxdVm web").dependsOn.includes("LxdNetwork home-lxdbr0"));
  });

  it("begins with an example whose inputs are accepted, once it has a real key", async () => {
    const [example = ""] = programsIn("README.md");
    assert.ok(example.includes(placeholder));
    const { resources: made } = await runExample(example.replace(placeholder, utils.generateKeyPairSync("ed25519").public));
    const custom = made.filter(({ type }) => type.startsWith("pulumi-nodejs:dynamic/lxd:"));
    assert.equal(custom.length, 8);
    for (const { type, id, inputs } of custom) {
      const checked = await provider(type.slice(type.lastIndexOf(":") + 1)).check({}, inputs);
      assert.deepEqual(checked.failures, [], id);
    }
  });
});
