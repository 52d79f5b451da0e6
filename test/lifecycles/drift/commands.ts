import { hostCommandLifecycle, vmCommandLifecycle } from "../../../provider/resources/machine-command";
import { GUEST_INPUTS, guestRows, HOST_INPUTS, HOST_ROWS, IN_A_VM, IN_GUEST, ON_HOST, type Way } from "./machines";
import { type Case, driftTable, type Entry } from "./table";

const MADE = "/srv/made";

const GIVEN = { command: ["touch", MADE], creates: MADE };

function tableOf(way: Way) {
  const { run } = way;
  const object = {
    "what the command did": {
      program: "without creates",
      byHand: run(`rm ${MADE}`),
      answer: "ignored",
      why: "without `creates`, the library does not know what the command did",
    },
  } satisfies Record<string, Entry>;
  const ofProgram: Case = { answer: "cannot drift", why: "it is kept in state only; the machine does not have it" };
  const inputs = {
    command: ofProgram,
    unless: ofProgram,
    onDelete: ofProgram,
    environment: ofProgram,
    stdin: ofProgram,
    triggers: ofProgram,
    creates: {
      byHand: run(`rm ${MADE}`),
      answer: "repaired",
      shows: ["command"],
      why: "what it creates is gone, so the command is run again",
    },
  } satisfies Record<string, Entry>;
  const ofRun: Case = { answer: "cannot drift", why: "it is of the last run" };
  const outputs = { stdout: ofRun, stderr: ofRun, isDone: ofRun } satisfies Record<string, Entry>;
  return { object, inputs, outputs, start: (program: string) => way.start(program, { looksAt: [MADE] }) };
}

const PROGRAMS = { "without creates": { creates: undefined } };

const inGuest = tableOf(IN_GUEST);
const onHost = tableOf(ON_HOST);

export const vmCommandDrift = driftTable(vmCommandLifecycle, {
  ...inGuest,
  given: { ...GIVEN, instance: "web1" },
  programs: { ...PROGRAMS, [IN_A_VM]: {} },
  object: { ...inGuest.object, ...guestRows("files") },
  inputs: { ...GUEST_INPUTS, ...inGuest.inputs },
});

export const hostCommandDrift = driftTable(hostCommandLifecycle, {
  ...onHost,
  given: GIVEN,
  programs: PROGRAMS,
  object: { ...onHost.object, ...HOST_ROWS },
  inputs: { ...HOST_INPUTS, ...onHost.inputs },
});
