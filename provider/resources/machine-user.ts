/**
 * A user of an instance or of a host, made by the system's own useradd and usermod.
 * @see useradd(8), passwd(5), sudoers(5), sshd(8) for authorized_keys
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { type Account, readAccounts } from "../machine/users/accounts";
import { requireIdle } from "../machine/users/home";
import { SUDO_RIGHTS } from "../machine/users/sudo";
import { groupNameSchema, passwordHashSchema, pathSchema, publicKeySchema, userNameSchema } from "../machine/users/user-args";
import {
  ensureAccess,
  ensureAccount,
  findAccount,
  type LiveUser,
  readUser,
  removeUser,
  requireLogin,
  requirePossible,
  requireRemovable,
} from "../machine/users/users";
import { sameSet } from "../support/equality";
import type { InInstanceArgs, OnHostArgs } from "./common-args";
import { IN_INSTANCE } from "./machine-access";
import { machineLifecycles } from "./machine-object";

const userShape = {
  name: userNameSchema,
  uid: z.int().min(1).max(4_294_967_294).optional(),
  home: pathSchema.optional(),
  shell: pathSchema.default("/bin/bash"),
  groups: z.array(groupNameSchema).optional(),
  sudo: z.enum(SUDO_RIGHTS, `must be one of ${SUDO_RIGHTS.join(", ")}`).default("none"),
  authorizedKeys: z.array(publicKeySchema).optional(),
  authorizedKeysMode: z.enum(["exclusive", "additive"], "must be exclusive or additive").default("exclusive"),
  passwordHash: passwordHashSchema.optional(),
  homeOnDelete: z.enum(["keep", "remove"], "must be keep or remove").default("keep"),
  adopt: z.boolean().default(false),
};

/** What {@link VmUserArgs} and {@link HostUserArgs} have in common. */
export interface UserArgs {
  /** Name of the user. Another name replaces the user. */
  name: Input<string>;
  /** User id, 1 to 4294967294. A change gives the files in the home to the new id. @default the id that useradd chooses */
  uid?: Input<number>;
  /** Absolute path of the home directory. A change moves the home. @default /home/NAME, or the home of an adopted user */
  home?: Input<string>;
  /** Absolute path of the login shell. It must exist. @default "/bin/bash" */
  shell?: Input<string>;
  /**
   * Supplementary groups, complete: the user is removed from all others. The groups must exist in the instance.
   * @default memberships are left as they are; a new user has none
   */
  groups?: Input<Input<string>[]>;
  /**
   * Rights by sudo: `none`; `password` for everything, with the user's password; `passwordless` for everything, without one.
   * Written to `/etc/sudoers.d/NAME`. Rights from other files and from groups are not checked.
   * @default "none"
   */
  sudo?: Input<"none" | "password" | "passwordless">;
  /** Public keys, as lines of authorized_keys. @default the file is left as it is; a new user has none */
  authorizedKeys?: Input<Input<string>[]>;
  /**
   * `exclusive` removes keys that are not listed and shows them as drift; `additive` manages only the listed keys.
   * @default "exclusive"
   */
  authorizedKeysMode?: Input<"exclusive" | "additive">;
  /**
   * Hash of the password in the format of crypt(3) (`openssl passwd -6`). State keeps it as a secret.
   * @default the password is left as it is; a new user has none and cannot log in with one
   */
  passwordHash?: Input<string>;
  /**
   * What happens to the home when the user is removed. A user of the same name that is created later gets a kept home.
   * @default "keep"
   */
  homeOnDelete?: Input<"keep" | "remove">;
  /**
   * Take over a user that others made, such as cloud-init's, with its uid and home. It is removed on delete like any other; the
   * resource option `retainOnDelete` leaves it.
   * @default false
   */
  adopt?: Input<boolean>;
  /** Time limits in seconds, for each call. @default 300 for create and update, 120 for delete, 60 for read */
  timeouts?: Input<TimeoutArgs>;
}

/** Arguments of {@link VmUser}. */
export interface VmUserArgs extends InInstanceArgs, UserArgs {}

/** Arguments of {@link HostUser}. */
export interface HostUserArgs extends OnHostArgs, UserArgs {}

/** Inputs of {@link VmUser}. @internal */
export const vmUserSchema = z.strictObject({ ...IN_INSTANCE.shape, ...userShape });

type Inputs = z.output<z.ZodObject<typeof userShape>>;

interface Outputs {
  uid: number;
  gid: number;
  home: string;
  /** The uid and home that the program gave. State holds the user's actual values as `uid` and `home`. */
  requested: { uid?: number; home?: string };
}

type State = Inputs & Outputs;

/** Replaces, in state, the hash of a password that was changed on the machine: state must not hold a foreign hash. */
const FOREIGN_PASSWORD = "(changed outside of Pulumi)";

/** See {@link VmUser} and {@link HostUser}. @internal */
export const { vm: vmUserLifecycle, host: hostUserLifecycle } = machineLifecycles<Inputs, Outputs>({
  kind: "User",
  schemaVersion: 1,
  shape: userShape,
  immutable: ["name"],
  needs: "files",
  timeouts: { create: 300, read: 60, update: 300, delete: 120 },

  leftAsIs: ["groups", "authorizedKeys", "passwordHash"],
  sameBy: {
    groups: (observed = [], wanted = []) => sameSet(observed, wanted),
    authorizedKeys: (observed = [], wanted = []) => sameSet(observed, wanted),
    // These may be left out, too. State then holds the user's actual values.
    uid: (observed, wanted, { requested }) => (wanted === undefined ? requested.uid === undefined : observed === wanted),
    home: (observed, wanted, { requested }) => (wanted === undefined ? requested.home === undefined : observed === wanted),
  },

  nameOf: ({ name }) => `User "${name}"`,
  idOf: ({ name }) => name,
  markOf: ({ name }) => `user.${name}`,
  lookupKeys: (inputs) => ({ requested: requestOf(inputs) }),
  replacementLoss: ({ homeOnDelete, home }, what) =>
    homeOnDelete === "remove"
      ? `${what} will be removed with all data in ${home}, then created again`
      : `${what} will be removed, then created again; ${home} stays`,

  async describe(machine, { name }) {
    const account = findAccount(await readAccounts(machine), name);
    return account && `uid ${account.uid}, home ${account.home}`;
  },

  async refuse(machine, inputs) {
    const accounts = await readAccounts(machine);
    await requirePossible(machine, inputs, accounts);
    await requireLogin(machine, inputs, accounts);
    const account = findAccount(accounts, inputs.name);
    await (account && requireIdle(machine, inputs, account));
  },

  async observe(machine, state) {
    const live = await readUser(machine, state.name, {
      home: state.requested.home !== undefined,
      authorizedKeys: state.authorizedKeys !== undefined,
      passwordHash: state.passwordHash !== undefined,
    });
    return live && { inputs: fromMachine(live, state), outputs: outputsFrom(live.account, state.requested) };
  },

  asKnown: (state) =>
    Object.hasOwn(state, "gid") // otherwise it is not in state yet
      ? { inputs: { uid: undefined, home: undefined, ...state.requested }, outputs: outputsFrom(state, state.requested) }
      : undefined,

  async save({ machine, exists }, inputs, state) {
    const accounts = await readAccounts(machine);
    const existing = findAccount(accounts, inputs.name);
    const requested = requestOf(inputs);
    if (existing !== undefined) {
      exists(outputsFrom(existing, requested));
    }
    const account = await ensureAccount(machine, inputs, accounts);
    exists(outputsFrom(account, requested));
    await ensureAccess(machine, inputs, account, state?.authorizedKeys ?? []);
    return outputsFrom(account, requested);
  },

  refuseRemoval: (machine, { name, homeOnDelete }) => requireRemovable(machine, name, homeOnDelete),

  remove: ({ machine, context: { deadline, warn } }, { name, homeOnDelete }) =>
    removeUser(machine, name, { home: homeOnDelete, deadline, warn }),
});

function requestOf({ uid, home }: Inputs): Outputs["requested"] {
  return { ...(uid !== undefined && { uid }), ...(home !== undefined && { home }) };
}

function outputsFrom({ uid, gid, home }: Pick<Account, "uid" | "gid" | "home">, requested: Outputs["requested"]): Outputs {
  return { uid, gid, home, requested };
}

function fromMachine(
  { account, home, groups, sudo, authorizedKeys = [], passwordHash }: LiveUser,
  state: State,
): Partial<Inputs> {
  const { requested, authorizedKeys: known = [] } = state;
  return {
    uid: requested.uid === undefined ? undefined : account.uid,
    home, // also absent after an interrupted move, which is a difference, too
    shell: account.shell,
    groups: inOrderOf(state.groups ?? [], groups),
    sudo: sudo as Inputs["sudo"], // also "custom", which no program can give: it shows as a difference
    authorizedKeys:
      state.authorizedKeysMode === "exclusive"
        ? inOrderOf(known, authorizedKeys)
        : known.filter((key) => authorizedKeys.includes(key)),
    passwordHash: passwordHash === state.passwordHash ? passwordHash : FOREIGN_PASSWORD,
  };
}

/** The live members, known ones first and in their known order, so that a diff shows only what changed. */
function inOrderOf(known: readonly string[], live: readonly string[]): string[] {
  return [...known.filter((member) => live.includes(member)), ...new Set(live.filter((member) => !known.includes(member)))];
}

abstract class User extends LxdResource {
  /** Name of the user. */
  declare readonly name: Output<string>;
  /** User id. */
  declare readonly uid: Output<number>;
  /** Id of the user's primary group. */
  declare readonly gid: Output<number>;
  /** Home directory of the user. */
  declare readonly home: Output<string>;
  /** Login shell of the user. */
  declare readonly shell: Output<string>;
  /** Supplementary groups of the user; `undefined` when they are not managed. */
  declare readonly groups: Output<string[] | undefined>;
  /** The user's rights by sudo; `custom` when the user's file in sudoers.d was changed by hand. */
  declare readonly sudo: Output<string>;
  /** Public keys of the user; `undefined` when they are not managed. */
  declare readonly authorizedKeys: Output<string[] | undefined>;

  protected constructor(kind: string, name: string, args: object, opts: CustomResourceOptions | undefined) {
    super(kind, name, { ...args }, ["uid", "gid", "home", "requested"], opts);
  }
}

/**
 * A user in a virtual machine or container. It is reached through LXD: the instance needs neither sshd nor an address.
 *
 * @example
 * ```typescript
 * new VmUser("web1-alice", {
 *   cluster,
 *   instance: web1.name,
 *   name: "alice",
 *   groups: ["adm"],
 *   sudo: "passwordless",
 *   authorizedKeys: [readFileSync("alice.pub", "utf8")],
 * }, { deletedWith: web1 });
 * ```
 */
export class VmUser extends User {
  /** Name of the instance. */
  declare readonly instance: Output<string>;
  /** Project of the instance. */
  declare readonly project: Output<string>;

  constructor(name: string, args: VmUserArgs, opts?: CustomResourceOptions) {
    super("VmUser", name, args, opts);
  }
}

/**
 * A user on a host.
 *
 * @example
 * ```typescript
 * new HostUser("bcn2-alice", {
 *   connection: { host: "192.168.1.102" },
 *   name: "alice",
 *   groups: ["adm"],
 *   sudo: "passwordless",
 *   authorizedKeys: [readFileSync("alice.pub", "utf8")],
 * });
 * ```
 */
export class HostUser extends User {
  constructor(name: string, args: HostUserArgs, opts?: CustomResourceOptions) {
    super("HostUser", name, args, opts);
  }
}
