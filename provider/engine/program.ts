/** The resources of the program that are compared with each other: faults that none of them shows alone. */
import type { CheckFailure, Lifecycle } from "./lifecycle";

/** What the process has checked so far. A process of the engine sees one program, and checks each of its resources. */
export class Program {
  private readonly parts = new Map<string, object>();

  /** Compares a resource with those that were checked before it. */
  compare<Inputs extends object>(
    { partOfProgram, compareInProgram }: Pick<Lifecycle<Inputs, never>, "partOfProgram" | "compareInProgram">,
    urn: string,
    inputs: Inputs,
  ): { failures: CheckFailure[]; warnings: string[] } {
    const part = partOfProgram?.(inputs);
    this.parts.delete(urn);
    const others = [...this.parts.values()];
    if (part === undefined) {
      return { failures: [], warnings: [] };
    }
    this.parts.set(urn, part);
    return compareInProgram?.(part as never, others as never[]) ?? { failures: [], warnings: [] };
  }
}
