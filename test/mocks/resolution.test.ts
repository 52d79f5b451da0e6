import assert from "node:assert/strict";
import { linkSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { providerPointer } from "../../provider/engine/pointer";
import { folderInModules, pack, unpack } from "../support/packed";
import { checkInProcess } from "../support/provider-process";

const ROOT = resolve(__dirname, "../..");
const SDK = "@pulumi/pulumi";
const PACKAGE = "pulumi-lxd-cluster";

/**
 * Where package managers put the SDK and this package, written by hand: path of the folder, and what is there. A text is the target of a
 * symbolic link. `test/engine/package-managers.test.ts` has the package managers themselves. What the packages depend on is found in this repository.
 */
interface Layout {
  readonly folders: Readonly<Record<string, "sdk" | "package" | "empty" | `-> ${string}`>>;
  /** The program's folder, where Pulumi starts the provider's process. */
  readonly program: string;
}

const FOUND: Readonly<Record<string, Layout>> = {
  "npm, and Yarn with node_modules": {
    folders: { [`app/node_modules/${SDK}`]: "sdk", [`app/node_modules/${PACKAGE}`]: "package" },
    program: "app",
  },
  "pnpm with a direct dependency": {
    folders: {
      [`app/node_modules/.pnpm/sdk@3/node_modules/${SDK}`]: "sdk",
      [`app/node_modules/.pnpm/package@0/node_modules/${PACKAGE}`]: "package",
      [`app/node_modules/${SDK}`]: `-> app/node_modules/.pnpm/sdk@3/node_modules/${SDK}`,
      [`app/node_modules/${PACKAGE}`]: `-> app/node_modules/.pnpm/package@0/node_modules/${PACKAGE}`,
    },
    program: "app",
  },
  "pnpm with a wrapper package": {
    folders: {
      [`app/node_modules/.pnpm/sdk@3/node_modules/${SDK}`]: "sdk",
      [`app/node_modules/.pnpm/package@0/node_modules/${PACKAGE}`]: "package",
      [`app/node_modules/.pnpm/node_modules/${PACKAGE}`]: `-> app/node_modules/.pnpm/package@0/node_modules/${PACKAGE}`,
      [`app/node_modules/${SDK}`]: `-> app/node_modules/.pnpm/sdk@3/node_modules/${SDK}`,
    },
    program: "app",
  },
  "workspaces with a wrapper package": {
    folders: { [`node_modules/${SDK}`]: "sdk", [`node_modules/${PACKAGE}`]: "package", "packages/app": "empty" },
    program: "packages/app",
  },
  "main: in another folder": {
    folders: { [`app/node_modules/${SDK}`]: "sdk", [`app/node_modules/${PACKAGE}`]: "package", "app/infra/src": "empty" },
    program: "app/infra/src",
  },
};

const NOT_FOUND: Readonly<Record<string, Layout>> = {
  "a wrapper package by file:": {
    folders: {
      [`app/node_modules/${SDK}`]: "sdk",
      [`wrapper/node_modules/${PACKAGE}`]: "package",
      "app/node_modules/wrapper": "-> wrapper",
    },
    program: "app",
  },
  "a bundle without node_modules of this package": { folders: { [`app/node_modules/${SDK}`]: "sdk" }, program: "app" },
};

describe("The pointer in state", () => {
  const { path: folder, remove } = folderInModules();
  let tarball = "";

  before(() => {
    tarball = pack(folder);
  });

  after(remove);

  const inputs = { __provider: providerPointer("LxdVm") };

  for (const [name, layout] of Object.entries(FOUND)) {
    it(`leads to the provider with ${name}`, async () => {
      const { error, failures = [] } = await checkInProcess(lay(folder, tarball, layout), inputs);
      assert.equal(error, undefined);
      assert.ok(failures.includes("cluster is required"), failures.join("; "));
    });
  }

  for (const [name, layout] of Object.entries(NOT_FOUND)) {
    it(`says in one sentence what to install with ${name}`, async () => {
      const program = lay(folder, tarball, layout);
      const { error, output } = await checkInProcess(program, inputs);
      assert.equal(error, `Pulumi does not find pulumi-lxd-cluster: run npm install pulumi-lxd-cluster in ${program}`);
      assert.equal(output, "pulumi-lxd-cluster: not found\n");
    });
  }
});

/** Makes a layout, and answers the program's folder. */
function lay(folder: string, tarball: string, { folders, program }: Layout): string {
  const root = mkdtempSync(join(folder, "layout-"));
  for (const [path, content] of Object.entries(folders)) {
    const target = join(root, path);
    if (content === "sdk") {
      copy(join(ROOT, "node_modules", SDK), target);
    } else if (content === "package") {
      unpack(tarball, target);
    } else if (content === "empty") {
      mkdirSync(target, { recursive: true });
    } else {
      mkdirSync(dirname(target), { recursive: true });
      symlinkSync(relative(dirname(target), join(root, content.slice("-> ".length))), target);
    }
  }
  writeFileSync(join(root, "package.json"), "{}");
  return join(root, program);
}

/** Copies a folder as hard links: a symbolic one would be resolved from where it leads. */
function copy(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) {
      copy(source, target);
    } else {
      linkSync(source, target);
    }
  }
}
