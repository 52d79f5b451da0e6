import { keptPath } from "../../../provider/machine/marks";
import { hostFileLifecycle, vmFileLifecycle } from "../../../provider/resources/machine-file";
import { edit, GUEST_INPUTS, guestRows, HOST_INPUTS, HOST_ROWS, IN_A_VM, IN_GUEST, ON_HOST, type Way } from "./machines";
import { driftTable, type Entry, how } from "./table";

const PATH = "/srv/app.conf";
const RAN = "/run/reloaded";

const GIVEN = { path: PATH, content: "a = 1\n", onChange: ["touch", RAN] };

function tableOf(way: Way) {
  const { run } = way;
  const object = {
    "the file itself": {
      byHand: run(`rm ${PATH}`),
      answer: "repaired",
      shows: ["content"],
      why: "its mark is there, so it is still managed; its content shows as `(missing)`",
    },
    "something else in its place": {
      byHand: [run(`rm ${PATH}`), run(`mkdir ${PATH}`)],
      answer: "refused",
      says: /cannot be managed: it is a directory/,
      cure: [run(`rmdir ${PATH}`), run(`touch ${PATH}`)],
      why: "a directory is not removed, nor a link followed",
    },
  } satisfies Record<string, Entry>;
  const inputs = {
    adopt: how("whether an existing file is adopted"),
    onDelete: how("what happens to the file when the resource is removed"),
    onChange: {
      byHand: {
        text: "the connection broke before `onChange` had run",
        act: (lab) => {
          way.files(lab).makeDirectory("/var/lib/pulumi-lxd-cluster", { parents: true });
          way.files(lab).writeFile(keptPath("pending", PATH), "");
        },
      },
      answer: "repaired",
      why: "the library notes on the machine, before it changes the file, that the command must follow",
    },
    path: {
      byHand: run(`mv ${PATH} /srv/other.conf`),
      answer: "repaired",
      shows: ["content"],
      why: "a file is found by its path; the one that was moved away is left",
    },
    content: {
      byHand: edit(way, `\`${PATH}\` is edited`, PATH, () => "a = 2\n"),
      answer: "repaired",
      why: "compared by its hash. State does not take foreign content: it shows as `(changed outside of Pulumi)`",
    },
    contentBase64: {
      program: "with content that is no text",
      byHand: edit(way, `\`${PATH}\` is edited`, PATH, () => "a = 2\n"),
      answer: "repaired",
      why: "as `content`",
    },
    owner: { byHand: run(`chown daemon ${PATH}`), answer: "repaired", why: "the program defines it" },
    group: { byHand: run(`chown :daemon ${PATH}`), answer: "repaired", why: "the program defines it" },
    mode: { byHand: run(`chmod 600 ${PATH}`), answer: "repaired", why: "the program defines it" },
  } satisfies Record<string, Entry>;
  const outputs = {
    onChangePending: { answer: "cannot drift", why: "see `onChange`" },
  } satisfies Record<string, Entry>;
  return {
    object,
    inputs,
    outputs,
    start: (program: string) => way.start(program, { looksAt: [PATH, keptPath("pending", PATH)] }),
  };
}

const PROGRAMS = { "with content that is no text": { content: undefined, contentBase64: "AAEC" } };

const inGuest = tableOf(IN_GUEST);
const onHost = tableOf(ON_HOST);

export const vmFileDrift = driftTable(vmFileLifecycle, {
  ...inGuest,
  given: { ...GIVEN, instance: "web1" },
  programs: { ...PROGRAMS, [IN_A_VM]: {} },
  object: { ...inGuest.object, ...guestRows("files") },
  inputs: { ...GUEST_INPUTS, ...inGuest.inputs },
});

export const hostFileDrift = driftTable(hostFileLifecycle, {
  ...onHost,
  given: GIVEN,
  programs: PROGRAMS,
  object: { ...onHost.object, ...HOST_ROWS },
  inputs: { ...HOST_INPUTS, ...onHost.inputs },
});
