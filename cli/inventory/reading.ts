/** One pass over a cluster: what is asked for, and what was found until now. */
import * as z from "zod";
import type { Lifecycle } from "../../provider/engine/lifecycle";
import type { Config } from "../../provider/lxd/config";
import { describeOwner } from "../../provider/lxd/ownership";
import type { Hosts } from "../hosts";
import { takeOver } from "../take";
import type { Feature, Kind, Taken } from "./contents";

const config = z.record(z.string(), z.string()).nullish();

/** An object of which only the name matters. */
export const namedSchema = z.looseObject({ name: z.string() });

/** An object of which only the name and the config matter. */
export const configuredSchema = z.looseObject({ name: z.string(), config });

/** One pass over a cluster. */
export class Reading {
  readonly taken: Taken[] = [];
  /** Objects that are not adopted, one sentence each. */
  readonly leftOut: string[] = [];
  /** Config of the projects, by name. */
  readonly projects = new Map<string, Config>();
  private readonly cluster;

  constructor(
    readonly hosts: Hosts,
    /** Whether it takes objects that have an owner. */
    readonly owned: boolean,
    private readonly tell: (text: string) => void,
  ) {
    this.cluster = { endpoints: hosts.all.map(({ connection }) => connection) };
  }

  /** Adds an object to `taken`, or the reason against it to `leftOut`. */
  async take<Inputs extends object, Outputs extends object>(
    lifecycle: Lifecycle<Inputs, Outputs>,
    object: { what: string; name: string; project?: string; mark?: string | undefined },
    args: Record<string, unknown>,
  ): Promise<void> {
    const { what, name, project = "default", mark = "" } = object;
    this.tell(`reading ${what}`);
    if (mark !== "" && !this.owned) {
      this.leaveOut(what, `it belongs to ${describeOwner(mark)}; adopt it with --owned`);
      return;
    }
    const place = "connection" in args ? {} : { cluster: this.cluster };
    const answer = await takeOver(lifecycle, { ...place, ...args, adopt: true });
    if ("why" in answer) {
      this.leaveOut(what, answer.why);
      return;
    }
    const { cluster: _, connection: _connection, ...own } = answer.args;
    this.taken.push({ kind: lifecycle.kind as Kind, name, project, args: own });
  }

  /** Notes an object that is not adopted. */
  leaveOut(what: string, why: string): void {
    this.leftOut.push(`${what}: ${why}`);
  }

  /** Returns the project whose profiles, networks or images a project uses. */
  holderOf(project: string, feature: Feature): string {
    return this.projects.get(project)?.[`features.${feature}`] === "true" ? project : "default";
  }
}

/** Name of an object with its project, for messages. */
export function named(project: string, name: string): string {
  return project === "default" ? name : `${name} of project ${project}`;
}
