import type { SimulatedLab } from "../../../lab/simulated";
import type { PackagedMachine } from "../../../lab/simulated/programs/packages";
import { hostPackagesLifecycle, vmPackagesLifecycle } from "../../../provider/resources/machine-packages";
import { GUEST_INPUTS, HOST_INPUTS, HOST_ROWS, IN_GUEST, ON_HOST, type Way } from "./machines";
import type { ManualChange } from "./manual-changes";
import { driftTable, type Entry, how } from "./table";

/** The packages of a simulated machine. */
type Software = Pick<PackagedMachine, "packages" | "heldPackages"> & {
  readonly archive: Map<string, string>;
};

const GIVEN = {
  packages: ["jq", { name: "curl", version: "7.88.1-10+deb12u14", hold: true }, { name: "apache2", absent: true }],
};

function tableOf(way: Way, softwareOf: (lab: SimulatedLab) => Software) {
  const { run } = way;
  const apt = (words: string): string => run(`apt-get --yes ${words}`);
  /** The sources get something that they did not have. */
  const released = (name: string, version: string): ManualChange => ({
    text: `the sources get \`${name}\` ${version}`,
    act: (lab) => {
      softwareOf(lab).archive.set(name, version);
    },
  });
  const object = {
    "a package that the program does not name": {
      byHand: apt("install libjq1"),
      answer: "ignored",
      why: "only the packages of the program are managed",
    },
  } satisfies Record<string, Entry>;
  const inputs = {
    cacheSeconds: how("when the package lists are updated"),
    removeOnDelete: how("whether packages are removed with the resource"),
    packages: [
      { byHand: apt("remove jq"), answer: "repaired", why: "a package of the program is missing; it is installed again" },
      {
        byHand: [released("apache2", "2.4.66-1"), apt("install apache2")],
        answer: "repaired",
        why: "a package that must be absent is removed",
      },
      { byHand: run("apt-mark unhold curl"), answer: "repaired", why: "the program defines the hold" },
      { byHand: run("apt-mark hold jq"), answer: "ignored", why: "a hold that the program does not set is left as it is" },
      {
        byHand: [released("curl", "7.88.1-10+deb12u15"), run("apt-mark unhold curl"), apt("install curl=7.88.1-10+deb12u15")],
        answer: "refused",
        says: /in version 7\.88\.1-10\+deb12u15, but packages asks for 7\.88\.1-10\+deb12u14, which is older/,
        cure: {
          program: {
            packages: ["jq", { name: "curl", version: "7.88.1-10+deb12u15", hold: true }, { name: "apache2", absent: true }],
          },
        },
        why: "a package is not brought back to an older version. One without a version in the program may be upgraded",
      },
    ],
  } satisfies Record<string, Entry>;
  const outputs = {
    installed: { answer: "cannot drift", why: "it is noted when they are installed" },
    held: { answer: "cannot drift", why: "it is noted when they are held; see `packages`" },
    versions: {
      byHand: [released("jq", "1.6-2.1+deb12u2"), apt("install jq=1.6-2.1+deb12u2")],
      answer: "shown",
      why: "an upgrade of a package whose version the program does not set",
    },
  } satisfies Record<string, Entry>;
  return {
    object,
    inputs,
    outputs,
    start: async (program: string) => {
      const world = await way.start(program, { looksAt: [] });
      return { ...world, look: async () => [await world.look(), shown(softwareOf(world.lab))] };
    },
  };
}

function shown({ packages, heldPackages }: Software): unknown {
  return { packages: [...packages].sort(), held: [...heldPackages].sort() };
}

const inGuest = tableOf(IN_GUEST, (lab) => lab.guestSoftware("bcn2", "web1"));
const onHost = tableOf(ON_HOST, (lab) => lab.host("bcn2"));

export const vmPackagesDrift = driftTable(vmPackagesLifecycle, {
  ...inGuest,
  given: { ...GIVEN, instance: "web1" },
  programs: {},
  object: {
    ...inGuest.object,
    "the instance": {
      byHand: "lxc stop web1",
      cure: "lxc start web1",
      answer: "ignored",
      why: "the packages of a stopped instance cannot be listed: they are assumed unchanged",
    },
    "the hosts": HOST_ROWS["the host"],
  },
  inputs: { ...GUEST_INPUTS, ...inGuest.inputs },
});

export const hostPackagesDrift = driftTable(hostPackagesLifecycle, {
  ...onHost,
  given: GIVEN,
  programs: {},
  object: { ...onHost.object, ...HOST_ROWS },
  inputs: { ...HOST_INPUTS, ...onHost.inputs },
});
