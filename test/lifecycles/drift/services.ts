import type { SimulatedLab } from "../../../lab/simulated";
import { guestOf } from "../../../lab/simulated/guest";
import type { SimulatedUnits } from "../../../lab/simulated/programs/systemd";
import { hostServiceLifecycle, vmServiceLifecycle } from "../../../provider/resources/machine-service";
import { GUEST_INPUTS, HOST_INPUTS, HOST_ROWS, IN_A_VM, IN_GUEST, ON_HOST, type Way } from "./machines";
import type { ManualChange } from "./manual-changes";
import { driftTable, type Entry, how } from "./table";
import { ALL_POWER_CUT } from "./world";

const FILE = "/usr/lib/systemd/system/cron.service";
const LINK = "/etc/systemd/system/multi-user.target.wants/cron.service";
const MASK = "/etc/systemd/system/cron.service";

const LEFT = "with nothing but triggers and active";

function unitsOf(way: Way, lab: SimulatedLab): SimulatedUnits | undefined {
  if (way === ON_HOST) {
    return lab.host("bcn2").units;
  }
  const [web1] = lab.host("bcn2").daemon?.database.instances.values() ?? [];
  return web1 && guestOf(web1).units;
}

function tableOf(way: Way) {
  const { run } = way;
  const dies: ManualChange = { text: "its process is killed", act: (lab) => unitsOf(way, lab)?.kill("cron.service") };
  const object = {
    "the unit itself": {
      byHand: [run("systemctl stop cron"), run(`mv ${FILE} /srv/cron.service`), run("systemctl daemon-reload")],
      answer: "refused",
      says: /There is no unit "cron\.service" .*: install its package first/,
      cure: run(`mv /srv/cron.service ${FILE}`),
      why: "a unit comes with its package: the preview shows a new resource, and that it will be refused",
    },
  } satisfies Record<string, Entry>;
  const inputs = {
    unit: {
      answer: "cannot drift",
      why: "a unit is found by its name",
    },
    enabled: [
      { byHand: run("systemctl disable cron"), answer: "repaired", why: "the program defines it" },
      {
        program: LEFT,
        byHand: run("systemctl disable cron"),
        answer: "ignored",
        why: "not managed if the program does not set it",
      },
    ],
    active: [
      { byHand: run("systemctl stop cron"), answer: "repaired", why: "the program defines it" },
      { byHand: dies, answer: "repaired", why: "a unit that has failed does not run. `activeState` says so" },
    ],
    masked: [
      {
        byHand: run("systemctl mask cron"),
        shows: ["enabled", "masked"],
        answer: "repaired",
        why: "the program defines it; nothing starts a masked unit at boot",
      },
      { program: LEFT, byHand: run("systemctl mask cron"), answer: "ignored", why: "not managed if the program does not set it" },
    ],
    triggers: how("when the unit is restarted"),
  } satisfies Record<string, Entry>;
  const outputs = {
    activeState: {
      program: "with enabled alone",
      byHand: dies,
      answer: "shown",
      why: "it is what the init system says, also of a unit that need not run",
    },
    unitFileState: {
      program: LEFT,
      byHand: run("systemctl disable cron"),
      answer: "shown",
      why: "it is what the init system says",
    },
    restartPending: { answer: "cannot drift", why: "it is stored in state only" },
  } satisfies Record<string, Entry>;
  return {
    object,
    inputs,
    outputs,
    start: async (program: string) => {
      const world = await way.start(program, { looksAt: [LINK, MASK, FILE] });
      return { ...world, look: async () => [await world.look(), unitsOf(way, world.lab)?.state()] };
    },
  };
}

const GIVEN = { unit: "cron", enabled: true, active: true, masked: false, triggers: ["a"] };

const PROGRAMS = {
  [LEFT]: { enabled: undefined, masked: undefined },
  "with enabled alone": { active: undefined, masked: undefined, triggers: undefined },
};

const inGuest = tableOf(IN_GUEST);
const onHost = tableOf(ON_HOST);

const UNKNOWN = "what runs in a stopped instance cannot be read: its services are shown as last known";

export const vmServiceDrift = driftTable(vmServiceLifecycle, {
  ...inGuest,
  given: { ...GIVEN, instance: "web1" },
  programs: { ...PROGRAMS, [IN_A_VM]: {} },
  object: {
    ...inGuest.object,
    "the instance": [
      { byHand: "lxc stop web1", cure: "lxc start web1", answer: "ignored", why: UNKNOWN },
      { program: IN_A_VM, byHand: "lxc stop web1", cure: "lxc start web1", answer: "ignored", why: UNKNOWN },
    ],
    "the hosts": ALL_POWER_CUT,
  },
  inputs: { ...GUEST_INPUTS, ...inGuest.inputs },
});

export const hostServiceDrift = driftTable(hostServiceLifecycle, {
  ...onHost,
  given: GIVEN,
  programs: PROGRAMS,
  object: { ...onHost.object, ...HOST_ROWS },
  inputs: { ...HOST_INPUTS, ...onHost.inputs },
});
