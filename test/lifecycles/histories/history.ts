/**
 * One history: edits of the program, manual changes, faults, and engine operations, in any order. After each `up`
 * without a fault, the live objects are compared with the program and with the preview.
 */
import assert from "node:assert/strict";
import { inspect } from "node:util";
import { GREETING } from "../../../lab/simulated/login-shell";
import { hasCode, messageOf } from "../../../provider/support/errors";
import { type Declared, ModelEngine, type Properties, type Run } from "../engine-model";
import { type Foreign, foreignObjects } from "./foreign";
import { faults, type Live, notDropped, takeSnapshot } from "./live";
import { ephemeral, MANUAL_CHANGES, type ManualChange } from "./manual-changes";
import { certificateRenewed, fingerprintOf, memberReinstalled, memberRemoved } from "./members";
import { bringsAMember, describe, messages, REFUSALS, startsAnInstance } from "./outcomes";
import { previewErrors } from "./preview-check";
import { baseProgram, declare, edits, givenKeys, kindOf, NAMES, type Program, without, withResource } from "./program";
import { type EngineCall, type History, lostOperation, type Step } from "./steps";
import { providerOf, World } from "./world";

/** Counts of all histories in this process. */
export const counts = { histories: 0, steps: 0, ups: 0, refusals: 0, properties: 0 };

/** Runs a history. Throws with everything that was wrong. */
export async function play({ parallel, bare, steps }: History): Promise<void> {
  const world = await World.start();
  const player = new Player(world, parallel);
  try {
    if (!bare) {
      await player.take({ do: "up" });
    }
    for (const each of steps) {
      await player.take(each);
      counts.steps += 1;
    }
    await player.finish();
    counts.histories += 1;
  } catch (error) {
    throw new Error(
      `${player.story.map((line) => `  - ${line}`).join("\n")}\n${error instanceof Error ? (error.stack ?? "") : String(error)}`,
      { cause: error },
    );
  } finally {
    await world.stop();
  }
  assert.deepEqual(
    [world.lab.defects, world.lab.unknownGuestCommands, world.lab.hosts.flatMap(({ unknownCommands }) => unknownCommands)],
    [[], [], []],
    "the simulator implements everything that it was asked",
  );
}

class Player {
  /** Log of the history, for the message. */
  readonly story: string[] = [];
  private readonly base: Program;
  private program: Program;
  private readonly engine: ModelEngine;
  /** The program's inputs of each resource when it was last applied. */
  private applied: Program = {};
  /** The renewed certificate that the program confirms. */
  private confirmed: string | undefined;
  private readonly foreign = new Set<string>();
  private known: Foreign = new Map();
  /** Keys that the program of the last `up` set, if nothing has failed since. */
  private given: ReadonlyMap<string, readonly string[]> = new Map();

  constructor(
    private readonly world: World,
    parallel: boolean,
  ) {
    this.engine = new ModelEngine(providerOf, parallel);
    this.base = baseProgram(world.surroundings);
    this.program = this.base;
  }

  async take(step: Step): Promise<void> {
    if (step.do !== "edit") {
      this.story.push(inspect(step, { breakLength: Number.POSITIVE_INFINITY }));
    }
    switch (step.do) {
      case "edit":
        this.edit(step.resource, step.property, step.value);
        break;
      case "remove":
        this.program = without(this.program, step.resource);
        break;
      case "add":
        this.program = withResource(this.program, this.base, step.resource);
        break;
      case "hand":
        await this.byHand(MANUAL_CHANGES[step.what]);
        break;
      case "up":
        await this.checkedUp();
        break;
      case "fault": {
        const { nth, effect: what } = step;
        this.world.lab.faults.add({ when: { ...(step.method === "" ? {} : { method: step.method }), nth }, effect: what });
        await this.call(step.during);
        this.world.lab.faults.clear();
        break;
      }
      case "operations lost":
        this.world.lab.timings.operationMs = 2; // so that they run when their daemon ends
        this.world.lab.faults.add(lostOperation(step.how, step.nth));
        await this.call(step.during);
        this.world.lab.faults.clear();
        this.world.lab.timings.operationMs = 0;
        break;
      case "made ephemeral":
        await this.byHand(ephemeral(step.instance, true));
        break;
      case "member removed":
        await this.byHand(memberRemoved(step.host, "emptied"));
        await this.forgetGone();
        break;
      case "certificate renewed":
        await this.byHand(certificateRenewed);
        break;
      case "member reinstalled":
        await this.byHand(memberReinstalled(step.host));
        await this.forgetGone();
        break;
      case "power cut":
        await this.world.lab.host(step.host).powerOff();
        await this.call(step.during);
        await this.world.lab.host(step.host).powerOn();
        break;
      case "greeting":
        this.world.lab.host(step.host).shell.greeting = step.on ? GREETING : "";
        break;
      case "destroy":
        await this.destroy();
        break;
      default:
        await this.call(step.do);
    }
    await this.noteForeign();
  }

  /** Finally the obstacles are removed, and the program asks for nothing impossible: one `up` must succeed. */
  async finish(): Promise<void> {
    await this.removeObstacles();
    this.program = this.possible();
    let run = await this.checkedUp();
    // Each message names a remedy, which is applied once. A message may appear only when the cause of another is
    // resolved.
    const cures = new Map([
      [
        "cannot resize a pool", // a host that became a member again brought the default: "Give the size that it has"
        async () => {
          await this.call("refresh");
          this.program = this.possible();
        },
      ],
      [
        "did not take the change", // a profile stops no instance for its change: "Stop them"
        async () => {
          await this.byHand(MANUAL_CHANGES["web1: stop"]);
          await this.byHand(MANUAL_CHANGES["web2: stop"]);
        },
      ],
    ]);
    const due = (): string[] => [...cures.keys()].filter((words) => messages(run).some((message) => message.includes(words)));
    for (let found = due(); found.length > 0; found = due()) {
      for (const words of found) {
        await cures.get(words)?.();
        cures.delete(words);
      }
      run = await this.checkedUp();
    }
    assert.deepEqual(messages(run), [], "an up without obstacles");
    // Everything but the cluster itself is removed, and nothing of it remains.
    this.program = Object.fromEntries(Object.entries(this.program).filter(([name]) => /^(node|member)-/.test(name)));
    await this.removeObstacles();
    const rest = await this.checkedUp();
    assert.deepEqual(messages(rest), [], "an up that removes everything but the cluster");
    const live = await this.look();
    const { profiles, acls, groups, projects, volumes, certificates, networks, pools, instances, images } = live;
    const kinds = [profiles, acls, groups, projects, volumes, certificates, networks, pools, instances, images];
    const left = kinds.flatMap((kind) => [...kind.keys()]);
    const theirs = [...this.foreign].map((path) => path.split("/").at(-1));
    assert.deepEqual(
      left.filter((name) => name !== "default" && !theirs.includes(name)),
      [],
      "nothing of the program remains",
    );
  }

  private async destroy(): Promise<void> {
    const run = await this.engine.destroy();
    this.story.push(`  destroy: ${describe(run)}`);
    this.given = new Map();
    if (run.failures.length === 0) {
      this.foreign.clear(); // a member that leaves is wiped, with all its data
    }
  }

  private edit(name: string, property: number, value: number): void {
    const properties = edits(this.world.surroundings, this.base)[name] ?? [];
    const values = properties[property % properties.length] ?? [];
    const change = values[value % values.length] as object;
    if (this.program[name] !== undefined) {
      this.story.push(`edit ${name}: ${inspect(change, { depth: 5, breakLength: Number.POSITIVE_INFINITY })}`);
      const changed = { ...this.program, [name]: { ...this.program[name], ...change } };
      this.program = withResource(changed, this.base, name); // it may name another resource
    }
  }

  private async byHand(hand: ManualChange | undefined): Promise<void> {
    const member = this.world.member();
    if (member === undefined) {
      return; // nothing exists yet
    }
    const [lxd, clients] = [await this.world.client(member), await this.world.clients()];
    const on = (host: string) => clients.get(host) ?? lxd;
    const foreign = (path: string): void => void this.foreign.add(path);
    try {
      await hand?.({ lab: this.world.lab, lxd, through: member, on, foreign });
    } catch (error) {
      if (!["api", "operation"].some((code) => hasCode(error, code as "api")) && !/has no instance/.test(messageOf(error))) {
        throw error; // LXD may refuse a manual change, too; any other error is a defect of the test
      }
    }
  }

  private noteApplied({ steps, failures }: Run): void {
    const done = Object.entries(this.program).filter(
      ([name]) => steps.has(name) && !failures.some(({ resource }) => resource === name),
    );
    this.applied = { ...this.applied, ...Object.fromEntries(done) };
  }

  /** The current program. A cluster that does not exist yet has no certificate. */
  private declared(): Declared[] {
    if (this.engine.find("member-bcn2") === undefined) {
      this.confirmed = undefined;
    }
    return declare(this.program, this.confirmed);
  }

  private async call(what: EngineCall): Promise<Run> {
    const run = await (what === "refresh" ? this.engine.refresh() : this.engine[what](this.declared()));
    this.story.push(`  ${what}: ${describe(run)}`);
    if (what === "up") {
      this.noteApplied(run);
      this.given = new Map();
    }
    return run;
  }

  /** `pulumi up` with its preview, without faults, and all checks of its result. */
  private async checkedUp(): Promise<Run> {
    const { lab } = this.world;
    const declared = this.declared();
    const preview = await this.engine.preview(declared);
    const stateBefore = this.engine.resources;
    const before = await this.look();
    const [since, events] = [lab.requests.length, lab.lifecycle.length];
    const run = await this.engine.up(declared);
    this.noteApplied(run);
    this.story.push(`  up: ${describe(run)}`);
    const deletions = lab.mutations(since).filter((request) => request.method === "DELETE");
    const stops = lab.lifecycle.slice(events).filter(({ action }) => /^instance-(stopped|shutdown|restarted)$/.test(action));
    const after = await this.look();
    const seen = {
      program: this.program,
      stateBefore,
      preview,
      run,
      before,
      after,
      stops,
      deletions: deletions.map(({ path }) => path),
    };
    const told = previewErrors(seen);
    counts.properties += told.compared;
    assert.deepEqual(told.wrong, [], "the preview shows the changes of up");
    await this.foreignAreUntouched(after);
    counts.ups += 1;
    if (run.failures.length > 0) {
      counts.refusals += 1;
      this.given = new Map();
      assert.deepEqual(
        messages(run).filter((message) => !REFUSALS.some((refusal) => refusal.test(message))),
        [],
        "without a fault, up fails only with a refusal",
      );
      return (await this.doWhatIsSaid(run, preview, before)) ? this.checkedUp() : run;
    }
    if (bringsAMember(before, after)) {
      return this.checkedUp(); // the next refresh sees its changes of pools and networks
    }
    const settled = startsAnInstance(before, after) || this.isWaitedFor() ? await this.afterAnotherUp() : after;
    const wrong = [...faults(settled, this.program), ...notDropped(settled, this.program, this.given)];
    assert.deepEqual(wrong, [], "the live objects match the program");
    this.given = givenKeys(this.program);
    const quiet = lab.requests.length;
    const again = await this.engine.up(declared);
    assert.deepEqual(messages(again), [], "a further up fails");
    const steps = [...again.steps]
      .filter(([, { op }]) => op !== "same")
      .map(([name, { op, changed }]) => `${op} ${name} ${changed.join()}`);
    assert.deepEqual([steps, lab.mutations(quiet)], [[], []], "a further up changes nothing");
    return run;
  }

  /** Makes the manual change that a refusal asks for, if only a user can make it. */
  private async doWhatIsSaid(run: Run, preview: Run, before: Live): Promise<boolean> {
    const [, renewed] = /set it in the program: certificateFingerprint: "(\w+)"/.exec(messages(run).join("\n")) ?? [];
    if (renewed !== undefined) {
      const live = await fingerprintOf(await this.world.client(this.world.member() ?? assert.fail("a member answers")));
      assert.equal(renewed, live, "the fingerprint to confirm is the cluster's");
      assert.notEqual(renewed, this.confirmed, "it is confirmed once");
      this.confirmed = renewed;
      // Without a refresh other changes are unknown, so nothing else is asked for. Other refusals are resolved first.
      for (const program of [this.applied, this.possible()]) {
        const inState = Object.entries(program).filter(([name]) => this.engine.find(name) !== undefined);
        const confirming = await this.engine.up(declare(Object.fromEntries(inState), renewed), { refresh: false });
        this.story.push(`  up --refresh=false, with the new certificate: ${describe(confirming)}`);
        if (confirming.failures.length === 0) {
          break;
        }
      }
      return true;
    }
    const [, lost] = /lxc cluster remove --force (\w+)/.exec(messages(run).join("\n")) ?? [];
    if (lost !== undefined) {
      this.story.push(`  ${lost} is removed by force`);
      await this.byHand(memberRemoved(lost, "lost"));
      await this.forgetGone();
      return true;
    }
    const [, deleted] = /Instance "(\w+)" on .*ephemeral: it is ephemeral, so it is deleted/.exec(messages(run).join("\n")) ?? [];
    if (deleted === undefined) {
      return false;
    }
    assert.equal(before.instances.get(deleted)?.["ephemeral"], true, `${deleted} is ephemeral, as the refusal says`);
    assert.match(
      preview.warnings.map(([, text]) => text).join("\n"),
      /will refuse this\..*it is ephemeral/,
      "the preview shows it",
    );
    this.story.push(`  ${deleted} is no longer ephemeral`);
    await this.byHand(ephemeral(deleted, false));
    return true;
  }

  /** Whether a machine runs without a change of its profile: the next up restarts it, if permitted. */
  private isWaitedFor(): boolean {
    return this.engine.resources.some(({ outputs }) => Object.keys(outputs["waiting"] ?? {}).length > 0);
  }

  private async afterAnotherUp(): Promise<Live> {
    assert.deepEqual(messages(await this.engine.up(this.declared())), [], "the up after a machine was started, or waits for it");
    return this.look();
  }

  private async look(): Promise<Live> {
    const member = this.world.member();
    return member === undefined ? NOTHING : takeSnapshot(this.world.lab, member, await this.world.clients());
  }

  private async noteForeign(): Promise<void> {
    if (this.foreign.size > this.known.size) {
      this.known = foreignObjects(await this.look(), this.foreign);
    }
  }

  /** Objects of others on a member are removed with it. */
  private async forgetGone(): Promise<void> {
    this.known = foreignObjects(await this.look(), this.foreign);
    for (const [path, { of, text }] of this.known) {
      if (of === "gone" || text === '"gone"') {
        this.foreign.delete(path);
        this.known.delete(path);
      }
    }
  }

  private async foreignAreUntouched(live: Live): Promise<void> {
    const now = foreignObjects(live, this.foreign);
    for (const [path, { of, text }] of this.known) {
      const found = now.get(path);
      if (!this.foreign.has(path) || (of !== "" && found?.of !== of)) {
        this.foreign.delete(path); // it was deleted with its instance
        continue;
      }
      assert.equal(found?.text, text, `${path} of another owner is unchanged`);
    }
    this.known = now;
  }

  /** Removes obstacles that others made: users of an object, objects with a name in use, objects on a member. */
  private async removeObstacles(): Promise<void> {
    const member = this.world.member();
    if (member === undefined) {
      return;
    }
    const lxd = await this.world.client(member);
    const ours = new Set(Object.values(this.program).map((args) => String(args["name"])));
    for (const path of this.foreign) {
      const name = path.split("/").at(-1) ?? "";
      if (path.startsWith("/1.0/instances/") || ours.has(name)) {
        await removeByHand(path, lxd);
        this.foreign.delete(path);
        this.known.delete(path);
      }
    }
  }

  /** The program after correction of what was refused. */
  private possible(): Program {
    const full = NAMES.reduce<Program>((program, name) => withResource(program, this.base, name), this.program);
    return Object.fromEntries(
      Object.entries(full).map(([name, args]): [string, Properties] => {
        const base = this.base[name] ?? {};
        const stored = this.engine.find(name)?.outputs ?? {};
        const kept = (property: string) => {
          const value = stored[property] ?? base[property]; // an object in use cannot be renamed or recreated
          return value === undefined ? {} : { [property]: value };
        };
        if (/^(Vm|Host)/.test(kindOf(name))) {
          const { instance } = base;
          const itsUid = kindOf(name).endsWith("User") ? { uid: undefined } : {};
          return [name, { ...args, ...itsUid, ...(instance === undefined ? {} : { instance }), adopt: true }];
        }
        if (args["image"] !== undefined) {
          const size = (stored["rootDisk"] as { size?: string } | undefined)?.size;
          return [
            name,
            {
              ...args,
              running: true,
              allowRestart: "force",
              adopt: true,
              target: undefined,
              ...(size === undefined ? {} : { rootDisk: { size } }),
            },
          ];
        }
        return [
          name,
          {
            ...args,
            ...kept("name"),
            ...kept("driver"),
            ...kept("memberConfig"),
            ...kept("devices"),
            ...(name === "data" ? { deleteData: true } : {}),
            ...(name.startsWith("member-") ? { evacuated: false } : {}),
            ...(name.includes("-image") || name === "spare" ? { adopt: true } : {}),
          },
        ];
      }),
    );
  }
}

const NOTHING: Live = {
  profiles: new Map(),
  acls: new Map(),
  forwards: [],
  groups: new Map(),
  projects: new Map(),
  volumes: new Map(),
  certificates: new Map(),
  networks: new Map(),
  pools: new Map(),
  images: new Map(),
  instances: new Map(),
  members: new Map(),
  servers: new Map(),
  views: new Map(),
  user: () => undefined,
  file: () => undefined,
};

async function removeByHand(path: string, lxd: Awaited<ReturnType<World["client"]>>): Promise<void> {
  if (path.startsWith("/1.0/instances/")) {
    await lxd.change("PUT", `${path}/state`, { body: { action: "stop", timeout: 0, force: true } }).catch(() => undefined);
  }
  await lxd.remove(path);
}
