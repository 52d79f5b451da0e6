import type { Deadline } from "../../support/deadline";
import { hasCode, messageOf, TransportError } from "../../support/errors";
import { type Connection, describeConnection } from "../../transport/connection";
import { connect } from "../../transport/pool";
import { type Endpoint, endpointOf } from "./endpoint";

/**
 * The API of the first host that answers, in the order given.
 * @param options.patient - When none answers, keep dialling the first one, which may still be booting (`dialErrorLimit`).
 * @throws TransportError naming every host and why it did not answer; RefusedError when no daemon runs on those that do.
 */
export async function clusterEndpoint(
  endpoints: readonly Connection[],
  options: { deadline: Deadline; patient: boolean },
): Promise<Endpoint> {
  const { deadline, patient } = options;
  const failures: unknown[] = [];
  for (const connection of endpoints) {
    try {
      return await endpointOf(await connect(connection, { deadline }), deadline);
    } catch (error) {
      failures.push(error);
    }
  }
  const [first] = endpoints;
  if (patient && first !== undefined && failures.every((error) => hasCode(error, "transport"))) {
    return endpointOf(await connect(first, { deadline, patient }), deadline);
  }
  throw failures.length === 1 ? failures[0] : noneAnswers(endpoints, failures);
}

function noneAnswers(endpoints: readonly Connection[], failures: readonly unknown[]): TransportError {
  const names = endpoints.map(describeConnection).join(", ");
  return new TransportError(
    names,
    `No host of the cluster answers:\n${failures.map((error) => `  - ${messageOf(error)}`).join("\n")}`,
  );
}
