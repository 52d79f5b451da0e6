/**
 * A user inside an instance, managed through LXD's exec and SFTP: the instance needs neither sshd nor an address.
 * @see https://documentation.ubuntu.com/lxd/latest/instance-exec/ (LXD 5.0 to 6)
 */
import type { CustomResourceOptions, Input, Output } from "@pulumi/pulumi";
import * as z from "zod";
import { inCluster } from "../engine/connection-inputs";
import type { Context, Lifecycle } from "../engine/lifecycle";
import { LxdResource, type TimeoutArgs } from "../engine/resource";
import { type Account, readAccounts } from "../guest/accounts";
import { isReached, retryThroughAgentRestart } from "../guest/agent-restarts";
import { guestOf } from "../guest/guest";
import { enterInstance, type InsideWork, withGuestLock } from "../guest/instance";
import { idOfUser, markerOf, nameOfUser, saveUser } from "../guest/owned-user";
import { SUDO_RIGHTS } from "../guest/sudo";
import { groupNameSchema, passwordHashSchema, pathSchema, publicKeySchema, userNameSchema } from "../guest/user-args";
import { type LiveUser, readUser, removeUser, requireLogin, requirePossible, requireRemovable } from "../guest/users";
import { isRunning, setInstanceConfig } from "../lxd/instances/instances";
import { findInstanceShared } from "../lxd/instances/shared-reads";
import { instanceNameSchema, projectSchema } from "../lxd/names";
import { isLeftToOthers, refuseTakenOver } from "../lxd/ownership";
import { sameSet } from "../support/equality";
import { hasCode, havingChanged, messageOf } from "../support/errors";
import type { ClusterInput } from "./common-args";

/** Inputs of {@link VmUser}. @internal */
export const vmUserSchema = z.strictObject({
  ...inCluster,
  instance: instanceNameSchema,
  project: projectSchema,
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
});

/** Arguments of {@link VmUser}. */
export interface VmUserArgs {
  /** The cluster, or standalone server, that the instance belongs to. */
  cluster: ClusterInput;
  /**
   * Name of the instance: a virtual machine with LXD's agent, or a container. It must run while the user is created or changed.
   */
  instance: Input<string>;
  /** Project of the instance. @default "default" */
  project?: Input<string>;
  /** Name of the user. Another name replaces the user. */
  name: Input<string>;
  /** User id, 1 to 4294967294. A change gives the files in the home to the new id. @default the id that useradd chooses */
  uid?: Input<number>;
  /** Absolute path of the home directory. A change moves the home. @default /home/NAME, or the home of an adopted user */
  home?: Input<string>;
  /** Absolute path of the login shell. It must exist in the instance. @default "/bin/bash" */
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

type Inputs = z.output<typeof vmUserSchema>;

interface Outputs {
  uid: number;
  gid: number;
  home: string;
  /** The uid and home that the program gave. State holds the user's actual values as `uid` and `home`. */
  requested: { uid?: number; home?: string };
}

type State = Inputs & Outputs;

/** Replaces, in state, the hash of a password that was changed in the instance: state must not hold a foreign hash. */
const FOREIGN_PASSWORD = "(changed in the instance)";

/** See {@link VmUser}. @internal */
export const vmUserLifecycle: Lifecycle<Inputs, Outputs> = {
  kind: "VmUser",
  schemaVersion: 1,
  schema: vmUserSchema,
  immutable: ["instance", "project", "name"],
  timeouts: { create: 300, read: 60, update: 300, delete: 120 },

  leftAsIs: ["groups", "authorizedKeys", "passwordHash"],
  sameBy: {
    groups: (observed = [], wanted = []) => sameSet(observed, wanted),
    authorizedKeys: (observed = [], wanted = []) => sameSet(observed, wanted),
    // These may be left out, too. State then holds the user's actual values.
    uid: (observed, wanted, { requested }) => (wanted === undefined ? requested.uid === undefined : observed === wanted),
    home: (observed, wanted, { requested }) => (wanted === undefined ? requested.home === undefined : observed === wanted),
  },

  replacementLoss: (state) =>
    state.homeOnDelete === "remove"
      ? `${nameOfUser(state)} will be removed with all data in ${state.home}, then created again`
      : `${nameOfUser(state)} will be removed, then created again; ${state.home} stays`,

  async previewEffects(context, inputs) {
    const work = { ...(await insideWork(context, inputs)), progress: () => undefined };
    const instance = await findInstanceShared(work);
    if (instance === undefined || !isRunning(instance)) {
      return []; // unknown until it runs
    }
    const look = async (): Promise<void> => {
      const guest = guestOf(work);
      const accounts = await readAccounts(guest);
      await requirePossible(guest, inputs, accounts);
      await requireLogin(guest, inputs, accounts);
    };
    try {
      await retryThroughAgentRestart(work, look, { waitForAgent: false });
      return [];
    } catch (error) {
      if (!hasCode(error, "refused")) {
        throw error;
      }
      return [`pulumi up will refuse this. ${messageOf(error)}`];
    }
  },

  async create(context, inputs) {
    const work = await insideWork(context, inputs);
    return withGuestLock(work, async () => {
      const outputs = await save(context, work, inputs);
      return { id: idOfUser(inputs.project, inputs.instance, inputs.name), outputs };
    });
  },

  async read(context, _id, state) {
    const work = await insideWork(context, state);
    const instance = await findInstanceShared(work);
    if (instance === undefined) {
      return undefined;
    }
    // The files of a stopped virtual machine cannot be read. Its users still exist, and one stopped instance must not fail every
    // refresh: state keeps the last known values until the instance runs. Of a user that is not in state yet, nothing is known.
    const isKnown = Object.hasOwn(state, "gid");
    const asKnown = isKnown
      ? { inputs: { uid: undefined, home: undefined, ...state.requested }, outputs: outputsFrom(state, state.requested) }
      : undefined;
    if (instance.type === "virtual-machine" && !isRunning(instance)) {
      return asKnown;
    }
    const wanted = {
      home: state.requested.home !== undefined,
      authorizedKeys: state.authorizedKeys !== undefined,
      passwordHash: state.passwordHash !== undefined,
    };
    try {
      const live = await retryThroughAgentRestart(work, () => readUser(guestOf(work), state.name, wanted), {
        waitForAgent: false,
      });
      return live === undefined
        ? undefined
        : {
            inputs: fromGuest(live, state),
            outputs: outputsFrom(live.account, state.requested),
            mark: instance.config[markerOf(state.name)],
          };
    } catch (error) {
      const isOther = hasCode(error, "refused") || hasCode(error, "timeout");
      if (isOther || instance.type !== "virtual-machine" || (await isReached(work))) {
        throw error;
      }
      context.warn(
        `The agent in instance "${work.name}" does not answer. State keeps the last known values of user "${state.name}"`,
      );
      return asKnown;
    }
  },

  lookupKeys: (inputs) => ({ requested: requestOf(inputs) }),

  async update(context, _id, state, inputs) {
    const work = await insideWork(context, inputs);
    return withGuestLock(work, () => save(context, work, inputs, state));
  },

  async mark(context, _id, state) {
    const work = await insideWork(context, state);
    const marker = markerOf(state.name);
    await withGuestLock(work, () =>
      setInstanceConfig(work, { [marker]: context.mark }, ({ config }) =>
        refuseTakenOver(nameOfUser(state), work.lxd.host, config[marker], context),
      ),
    );
  },

  async delete(context, _id, state) {
    const work = await insideWork(context, state);
    await withGuestLock(work, async () => {
      const inside = await enterInstance(
        work,
        `Removing user "${state.name}"`,
        "Start it and try again. If the instance itself is to be removed, set the resource option deletedWith of its users to it",
      );
      const mark = inside?.found.value.config[markerOf(state.name)];
      if (inside === undefined || isLeftToOthers(nameOfUser(state), work.lxd.host, mark, context)) {
        return;
      }
      if (state.homeOnDelete === "remove") {
        await requireRemovable(inside.guest, state.name);
      }
      // The mark goes first. An interruption then leaves a user that state knows, not a mark without one.
      await setInstanceConfig(work, { [markerOf(state.name)]: "" }, undefined, inside.found);
      const options = { home: state.homeOnDelete, deadline: work.deadline, warn: context.warn };
      await havingChanged(() => removeUser(inside.guest, state.name, options));
    });
  },
};

async function insideWork(context: Context, at: Pick<Inputs, "cluster" | "project" | "instance">): Promise<InsideWork> {
  const { deadline, progress } = context;
  return { lxd: await context.lxd(at.cluster), project: at.project, name: at.instance, deadline, progress };
}

/** Makes the user as wanted, from any intermediate state. */
function save(context: Context, work: InsideWork, inputs: Inputs, state?: State): Promise<Outputs> {
  const owner = { ...context, adopt: inputs.adopt, isKnown: state !== undefined };
  const requested = requestOf(inputs);
  return saveUser(work, inputs, owner, state?.authorizedKeys ?? [], (account) => outputsFrom(account, requested));
}

function requestOf({ uid, home }: Inputs): Outputs["requested"] {
  return { ...(uid !== undefined && { uid }), ...(home !== undefined && { home }) };
}

function outputsFrom({ uid, gid, home }: Pick<Account, "uid" | "gid" | "home">, requested: Outputs["requested"]): Outputs {
  return { uid, gid, home, requested };
}

function fromGuest({ account, home, groups, sudo, authorizedKeys = [], passwordHash }: LiveUser, state: State): Partial<Inputs> {
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

/**
 * A user in a virtual machine or container.
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
export class VmUser extends LxdResource {
  /** Name of the instance. */
  declare readonly instance: Output<string>;
  /** Project of the instance. */
  declare readonly project: Output<string>;
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

  constructor(name: string, args: VmUserArgs, opts?: CustomResourceOptions) {
    super("VmUser", name, { ...args }, ["uid", "gid", "home", "requested"], opts);
  }
}
