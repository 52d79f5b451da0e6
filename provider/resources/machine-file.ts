/**
 * A file of an instance or of a host.
 * @see path_resolution(7), rename(2)
 */
import { readFile as readLocalFile } from "node:fs/promises";
import { asset, type CustomResourceOptions, type Input, type Output, output } from "@pulumi/pulumi";
import * as z from "zod";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { runCommand } from "../machine/commands";
import {
  describeFile,
  endPending,
  ensureFile,
  type FileSpec,
  forgetFile,
  isPending,
  keepFormer,
  type LiveFile,
  prepareFile,
  readFile,
  removeFile,
  sha256Of,
} from "../machine/files";
import { messageOf } from "../support/errors";
import type { InInstanceArgs, OnHostArgs } from "./common-args";
import { argvSchema, filePathSchema, ownerSchema } from "./machine-args";
import { machineLifecycles } from "./machine-object";

/** State holds the content, so a file is limited. */
const MAX_MEBIBYTES = 1;

const MAX_BYTES = MAX_MEBIBYTES * 1024 * 1024;

const TOO_LARGE = `is larger than ${MAX_MEBIBYTES} MiB. Put a large file into the image, or fetch it with a command`;

const modeSchema = z
  .string('must be a string of octal digits, such as "0644"')
  .regex(/^0?[0-7]{3,4}$/, 'is not a mode of octal digits, such as "0644"')
  .transform((mode) => Number.parseInt(mode, 8).toString(8).padStart(4, "0"));

const fileShape = {
  path: filePathSchema,
  content: z
    .string()
    .refine((text) => Buffer.byteLength(text) <= MAX_BYTES, TOO_LARGE)
    .optional(),
  contentBase64: z
    .string()
    .regex(/^[A-Za-z0-9+/]*={0,2}$/, "is not base64")
    .refine((text) => text.length <= (MAX_BYTES * 4) / 3 + 4, TOO_LARGE)
    .optional(),
  owner: ownerSchema.default("root"),
  group: ownerSchema.default("root"),
  mode: modeSchema.default("0644"),
  onChange: argvSchema.optional(),
  onDelete: z.enum(["restore", "remove", "keep"], "must be restore, remove or keep").default("restore"),
  adopt: z.boolean().default(false),
};

/** What {@link VmFileArgs} and {@link HostFileArgs} have in common. Exactly one of `content`, `contentBase64` and `source` is given. */
export interface FileArgs {
  /**
   * Absolute path of the file. Another path replaces the file. Missing directories above it are made, with mode 0755, and removed
   * with the file if they are empty then.
   */
  path: Input<string>;
  /** Text of the file, up to 1 MiB. State keeps it. Make it a secret (`pulumi.secret`) if it is one. */
  content?: Input<string>;
  /** Content of a file that is no text, in base64. */
  contentBase64?: Input<string>;
  /** A local file (`new pulumi.asset.FileAsset("motd")`), read when the program runs. */
  source?: Input<asset.Asset>;
  /** Owner: the name of a user, or a uid. @default "root" */
  owner?: Input<string | number>;
  /** Group: its name, or a gid. @default "root" */
  group?: Input<string | number>;
  /** Permissions in octal digits. @default "0644" */
  mode?: Input<string>;
  /**
   * Program and arguments to run after the file was made or changed: a reload, such as `["systemctl", "reload", "ssh"]`. If it
   * fails or is interrupted, the next `pulumi up` runs it again.
   * @default none
   */
  onChange?: Input<Input<string>[]>;
  /**
   * What happens to the file when the resource is removed: `restore` puts back the file that was there before it was adopted, and
   * removes the file if there was none; `remove`; `keep`.
   * @default "restore"
   */
  onDelete?: Input<"restore" | "remove" | "keep">;
  /** Take over a file that others made. It is kept on the machine, to be restored. @default false */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 300 for create and update, 120 for delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

/** Arguments of {@link VmFile}. */
export interface VmFileArgs extends InInstanceArgs, FileArgs {}

/** Arguments of {@link HostFile}. */
export interface HostFileArgs extends OnHostArgs, FileArgs {}

type Inputs = z.output<z.ZodObject<typeof fileShape>>;

interface Outputs {
  /** Whether `onChange` has yet to run. */
  onChangePending: boolean;
}

type State = Inputs & Outputs;

/** Replaces, in state, content that was changed on the machine: it may be secret, and is never fetched. */
const FOREIGN_CONTENT = "(changed outside of Pulumi)";

const MISSING = "(missing)";

/** See {@link VmFile} and {@link HostFile}. @internal */
export const { vm: vmFileLifecycle, host: hostFileLifecycle } = machineLifecycles<Inputs, Outputs>({
  kind: "File",
  schemaVersion: 1,
  shape: fileShape,
  immutable: ["path"],
  needs: "files",
  timeouts: { create: 300, read: 60, update: 300, delete: 120 },

  sameBy: {
    // Of the two, the one that the program gives shows the difference. The other one may have given the same before.
    content: (_observed, wanted, state, inputs) => wanted === undefined || sameContent(state, inputs),
    contentBase64: (_observed, wanted, state, inputs) => wanted === undefined || sameContent(state, inputs),
    onChange: (_observed, _wanted, state) => !state.onChangePending, // another command alone changes nothing
    onDelete: (observed, wanted) => observed === wanted,
  },

  checkTogether({ content, contentBase64 }) {
    return (content === undefined) === (contentBase64 === undefined)
      ? [{ property: "content", reason: "must be given, or else contentBase64 or source; and only one of them" }]
      : [];
  },

  nameOf: ({ path }) => `File "${path}"`,
  idOf: ({ path }) => path,
  markOf: ({ path }) => `file.${path}`,
  replacementLoss: ({ path }, what) =>
    `${what} will be removed (onDelete), and the other one made; nothing is moved from ${path}`,
  lookupKeys: () => ({ onChangePending: false }),

  async describe(machine, { path }) {
    const found = await machine.digestFile(path);
    return found && describeFile(found);
  },

  async refuse(machine, inputs) {
    await prepareFile(machine, specOf(inputs));
  },

  // Of a file that another resource manages, the one that was there before that one is kept already.
  takeOver: (machine, { path }, isOwned) => keepFormer(machine, path, { isNew: !isOwned }),

  async observe(machine, state) {
    const live = await readFile(machine, state.path);
    return live && { inputs: fromMachine(live, state), outputs: { onChangePending: live.isPending } };
  },

  asKnown: (state) =>
    Object.hasOwn(state, "onChangePending") ? { inputs: {}, outputs: { onChangePending: state.onChangePending } } : undefined,

  asMissing: ({ contentBase64, onChangePending }) => ({
    inputs: contentBase64 === undefined ? { content: MISSING } : { contentBase64: MISSING },
    outputs: { onChangePending },
  }),

  async save({ machine, context, exists }, inputs) {
    const { path, onChange } = inputs;
    const wasPending = await isPending(machine, path);
    const isChanged = await ensureFile(machine, specOf(inputs), {
      notes: onChange !== undefined,
    });
    if (onChange !== undefined && (isChanged || wasPending)) {
      exists({ onChangePending: true });
      context.progress(`running ${onChange[0] ?? ""}`);
      await runCommand(machine, `onChange of ${path}`, onChange, context.deadline);
    }
    exists({ onChangePending: false });
    if (wasPending || isChanged) {
      await endPending(machine, path);
    }
    return { onChangePending: false };
  },

  async remove({ machine, context, what }, { path, onDelete }) {
    if (!(await removeFile(machine, path, onDelete))) {
      context.warn(`${what} was not removed: something else is at its path now`);
    }
  },

  endRemoval: (machine, { path }) => forgetFile(machine, path),
});

function specOf(inputs: Inputs): FileSpec {
  const { path, owner, group, mode } = inputs;
  return { path, content: contentOf(inputs), owner, group, mode: Number.parseInt(mode, 8) };
}

function contentOf({ content, contentBase64 }: Pick<Inputs, "content" | "contentBase64">): Buffer {
  return content === undefined ? Buffer.from(contentBase64 ?? "", "base64") : Buffer.from(content);
}

function sameContent(state: Inputs, inputs: Inputs): boolean {
  return contentOf(state).equals(contentOf(inputs));
}

function fromMachine({ digest, accounts }: LiveFile, state: State): Partial<Inputs> {
  const { uid, gid, mode, sha256, type } = digest;
  const isSame = type === "file" && sha256 === sha256Of(contentOf(state));
  const foreign = type === "file" ? FOREIGN_CONTENT : `(${describeFile(digest)})`;
  return {
    ...(!isSame && (state.contentBase64 === undefined ? { content: foreign } : { contentBase64: foreign })),
    owner: nameOf(
      state.owner,
      uid,
      accounts.users.map(({ name, uid: id }) => ({ name, id })),
    ),
    group: nameOf(
      state.group,
      gid,
      accounts.groups.map(({ name, gid: id }) => ({ name, id })),
    ),
    mode: mode.toString(8).padStart(4, "0"),
  };
}

/** The known spelling of an owner if it still means the same; otherwise its name, or its number. */
function nameOf(known: string | number, id: number, names: readonly { name: string; id: number }[]): string | number {
  const isSame = known === id || names.some((each) => each.name === known && each.id === id);
  return isSame ? known : (names.find((each) => each.id === id)?.name ?? id);
}

abstract class File extends LxdResource {
  /** Path of the file. */
  declare readonly path: Output<string>;
  /** Text of the file; `undefined` for content that is no text. */
  declare readonly content: Output<string | undefined>;
  /** Owner of the file: a name, or a uid. */
  declare readonly owner: Output<string | number>;
  /** Group of the file: a name, or a gid. */
  declare readonly group: Output<string | number>;
  /** Permissions of the file in octal digits. */
  declare readonly mode: Output<string>;

  protected constructor(kind: string, name: string, { source, ...args }: FileArgs, opts: CustomResourceOptions | undefined) {
    const content = source === undefined ? {} : contentFrom(kind, name, source);
    super(kind, name, { ...args, ...content }, ["onChangePending"], opts);
  }
}

/** The content of an asset, as text if it is text: a preview then shows which lines change. */
function contentFrom(kind: string, name: string, source: Input<asset.Asset>): Pick<FileArgs, "content" | "contentBase64"> {
  const bytes = output(source).apply(async (given) => {
    if (given instanceof asset.StringAsset) {
      return Buffer.from(await given.text);
    }
    if (!(given instanceof asset.FileAsset)) {
      throw new Error(`${kind} "${name}": source must be a FileAsset or a StringAsset`);
    }
    return readLocalFile(await given.path).catch((error: unknown) => {
      throw new Error(`${kind} "${name}": source cannot be read: ${messageOf(error)}`);
    });
  });
  const isText = (content: Buffer): boolean => Buffer.from(content.toString("utf8")).equals(content) && !content.includes(0);
  return {
    content: bytes.apply((content) => (isText(content) ? content.toString("utf8") : undefined)) as Output<string>,
    contentBase64: bytes.apply((content) => (isText(content) ? undefined : content.toString("base64"))) as Output<string>,
  };
}

/**
 * A file in a virtual machine or container.
 *
 * @example
 * ```typescript
 * new VmFile("web1-motd", {
 *   cluster,
 *   instance: web1.name,
 *   path: "/etc/motd",
 *   content: pulumi.interpolate`This is ${web1.name}.\n`,
 *   adopt: true, // the image has one
 * }, { deletedWith: web1 });
 * ```
 */
export class VmFile extends File {
  /** Name of the instance. */
  declare readonly instance: Output<string>;
  /** Project of the instance. */
  declare readonly project: Output<string>;

  constructor(name: string, args: VmFileArgs, opts?: CustomResourceOptions) {
    super("VmFile", name, args, opts);
  }
}

/**
 * A file on a host.
 *
 * @example
 * ```typescript
 * new HostFile("bcn2-modules", {
 *   connection: { host: "192.168.1.102" },
 *   path: "/etc/modules-load.d/bridges.conf",
 *   content: "br_netfilter\n",
 * });
 * ```
 */
export class HostFile extends File {
  constructor(name: string, args: HostFileArgs, opts?: CustomResourceOptions) {
    super("HostFile", name, args, opts);
  }
}
