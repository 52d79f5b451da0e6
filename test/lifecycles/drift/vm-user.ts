import type { SimulatedLab } from "../../../lab/simulated";
import { vmUserLifecycle } from "../../../provider/resources/machine-user";
import type { ManualChange } from "./manual-changes";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, lookUp, standalone } from "./world";

const LAPTOP = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxhcHRvcGxhcHRvcGxhcHRvcGxhcHRvcGxhcHRvcDEy laptop";
const DESKTOP = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGRlc2t0b3BkZXNrdG9wZGVza3RvcGRlc2t0b3BkZXNr desktop";
const STRANGER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHN0cmFuZ2Vyc3RyYW5nZXJzdHJhbmdlcnN0cmFu stranger";
const HASH = `$6$salt$${"h".repeat(86)}`;
const HOME = "/home/al";
const KEYS = `${HOME}/.ssh/authorized_keys`;
const RULES = "/etc/sudoers.d/alice";
const DEFAULT_KEYS = "/home/alice/.ssh/authorized_keys";
const LOOKED_AT = [
  "/etc/passwd",
  "/etc/shadow",
  "/etc/group",
  "/etc/sudoers.d/docker",
  RULES,
  HOME,
  `${HOME}/.ssh`,
  KEYS,
  DEFAULT_KEYS,
];

/** An edit of a file in the guest. */
function edit(text: string, path: string, change: (content: string) => string): ManualChange {
  return {
    text,
    act: (lab) => {
      const files = filesOf(lab);
      files.writeFile(path, change(files.readText(path)));
    },
  };
}

/** A file or directory of the guest, as visible from outside. */
function lookAt(lab: SimulatedLab, path: string): unknown {
  const found = filesOf(lab).get(path, false);
  if (found === undefined) {
    return undefined;
  }
  const { uid, gid, mode } = found;
  const lines = found.type === "file" ? filesOf(lab).readText(path).split("\n").sort() : []; // the order of lines in these files has no meaning
  return { uid, gid, mode, type: found.type, lines };
}

function filesOf(lab: SimulatedLab): ReturnType<SimulatedLab["guestFiles"]> {
  return lab.guestFiles("bcn2", "web1");
}

export const vmUserDrift = driftTable(vmUserLifecycle, {
  given: {
    instance: "web1",
    name: "alice",
    uid: 1500,
    home: HOME,
    groups: ["adm"],
    sudo: "passwordless",
    authorizedKeys: [LAPTOP, DESKTOP],
    passwordHash: HASH,
  },
  start: (program) =>
    standalone({
      prepare: [
        "lxc storage create default dir",
        {
          text: "there is an instance",
          act: (lab) => {
            const type = program === "in a virtual machine" ? "virtual-machine" : "container";
            const devices = { root: { type: "disk", path: "/", pool: "default" } };
            lab.seedInstances(1, { host: "bcn2", prefix: "web", type, devices });
          },
        },
        "lxc exec web1 -- groupadd docker",
      ],
      look: async (one) => [await lookUp(one, "/1.0/instances/web1"), ...LOOKED_AT.map((path) => lookAt(one.lab, path))],
    }),
  programs: {
    "with additive keys": { authorizedKeysMode: "additive" },
    "without uid, home, groups, keys and password": {
      uid: undefined,
      home: undefined,
      groups: undefined,
      authorizedKeys: undefined,
      passwordHash: undefined,
    },
    "in a virtual machine": {},
  },

  object: {
    "the user itself": [
      {
        byHand: "lxc exec web1 -- userdel alice",
        answer: "recreated",
        why: "/etc/passwd has no such user. A remaining home is reused",
      },
    ],
    "the instance": [
      {
        byHand: "lxc stop web1",
        cure: "lxc start web1",
        answer: "ignored",
        why: "users of a stopped container are read from its files; a change of them waits until it runs",
      },
      {
        program: "in a virtual machine",
        byHand: "lxc stop web1",
        cure: "lxc start web1",
        answer: "ignored",
        why: "a stopped virtual machine cannot be read: its users are assumed unchanged",
      },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing user is adopted"),
    authorizedKeysMode: how("whether unlisted keys are removed"),
    homeOnDelete: how("what happens to the home when the user is removed"),
    instance: {
      answer: "cannot drift",
      why: "it is the location of the user; an instance that is gone takes its users with it",
    },
    project: { answer: "cannot drift", why: "as `instance`" },
    name: {
      byHand: "lxc exec web1 -- usermod --login alicia alice",
      answer: "refused",
      says: /cannot be set up in instance "web1".*the uid 1500 belongs to the user "alicia"/,
      cure: "lxc exec web1 -- usermod --login alice alicia",
      why: "a user is found by its name, so the preview shows a new one; but the renamed user has its uid and home. Renamed back, it is adopted with `adopt: true`",
    },
    uid: [
      { byHand: "lxc exec web1 -- usermod --uid 1600 alice", answer: "repaired", why: "a uid of the program" },
      {
        program: "without uid, home, groups, keys and password",
        byHand: "lxc exec web1 -- usermod --uid 1600 alice",
        answer: "ignored",
        why: "the guest chooses a uid that the program does not set",
      },
    ],
    home: [
      {
        byHand: "lxc exec web1 -- usermod --home /home/alice --move-home alice",
        answer: "repaired",
        why: "a home of the program; it is moved back",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: "lxc exec web1 -- usermod --home /home/elsewhere --move-home alice",
        answer: "ignored",
        why: "the guest chooses a home that the program does not set",
      },
    ],
    shell: { byHand: "lxc exec web1 -- usermod --shell /bin/sh alice", answer: "repaired", why: "the program defines it" },
    groups: [
      { byHand: "lxc exec web1 -- gpasswd --delete alice adm", answer: "repaired", why: "a missing group of the program" },
      {
        byHand: "lxc exec web1 -- usermod --append --groups docker alice",
        answer: "repaired",
        why: "a list of groups defines all supplementary groups",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: "lxc exec web1 -- usermod --append --groups docker alice",
        answer: "ignored",
        why: "groups are not managed if the program does not set them",
      },
    ],
    sudo: [
      { byHand: `lxc exec web1 -- rm ${RULES}`, answer: "repaired", why: "missing permissions" },
      {
        byHand: edit(`\`${RULES}\` is edited`, RULES, () => "alice ALL=(ALL) NOPASSWD: /bin/ls\n"),
        answer: "repaired",
        why: "other permissions show as `custom`",
      },
      {
        byHand: `lxc exec web1 -- chmod 666 ${RULES}`,
        answer: "repaired",
        why: "sudo does not read a file with these permissions",
      },
      {
        byHand: edit(`a comment in \`${RULES}\``, RULES, (text) => `# a comment\n${text}`),
        answer: "ignored",
        why: "it grants the same",
      },
      {
        byHand: {
          text: "`/etc/sudoers.d/docker` grants something to a group of the user",
          act: (lab) => {
            filesOf(lab).writeFile("/etc/sudoers.d/docker", "%docker ALL=(ALL) ALL\n");
          },
        },
        answer: "ignored",
        why: "only the user's own file is checked",
      },
    ],
    authorizedKeys: [
      {
        byHand: edit(`a key is added to \`${KEYS}\``, KEYS, (text) => `${text}${STRANGER}\n`),
        answer: "repaired",
        why: "the program defines all keys",
      },
      {
        byHand: edit("a key is removed from it", KEYS, (text) => text.replace(`${LAPTOP}\n`, "")),
        answer: "repaired",
        why: "a missing key",
      },
      { byHand: `lxc exec web1 -- rm ${KEYS}`, answer: "repaired", why: "all keys are missing" },
      {
        byHand: `lxc exec web1 -- chmod 666 ${KEYS}`,
        answer: "repaired",
        why: "sshd ignores a file that others can write to, so no login would work",
      },
      {
        byHand: `lxc exec web1 -- chown nobody ${KEYS}`,
        answer: "repaired",
        why: "sshd ignores a file that belongs to another user",
      },
      {
        byHand: `lxc exec web1 -- chmod 777 ${HOME}/.ssh`,
        answer: "repaired",
        why: "sshd ignores the content of a directory that others can write to",
      },
      {
        byHand: `lxc exec web1 -- chown nobody ${HOME}/.ssh`,
        answer: "repaired",
        why: "and of one that belongs to another user",
      },
      {
        byHand: `lxc exec web1 -- chmod 777 ${HOME}`,
        answer: "refused",
        says: /sshd ignores the keys of user "alice".*Type there: chmod go-w \/home\/al/,
        cure: `lxc exec web1 -- chmod 755 ${HOME}`,
        why: "sshd ignores keys in a home that others can write to. The user owns the home: preview and `up` show the command to run",
      },
      {
        byHand: edit("their order is changed", KEYS, () => `${DESKTOP}\n\n# mine\n${LAPTOP}\n`),
        answer: "ignored",
        why: "both files mean the same: a set of keys, with comments",
      },
      {
        program: "with additive keys",
        byHand: edit(`a key is added to \`${KEYS}\``, KEYS, (text) => `${text}${STRANGER}\n`),
        answer: "ignored",
        why: "only the listed keys are managed",
      },
      {
        program: "with additive keys",
        byHand: edit("a listed key is removed", KEYS, (text) => text.replace(`${LAPTOP}\n`, "")),
        answer: "repaired",
        why: "the listed keys are managed; others stay",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: {
          text: "keys are added manually",
          act: (lab) => {
            filesOf(lab).makeDirectory("/home/alice/.ssh", { parents: true });
            filesOf(lab).writeFile(DEFAULT_KEYS, `${STRANGER}\n`);
          },
        },
        answer: "ignored",
        why: "keys are not managed if the program does not set them",
      },
    ],
    passwordHash: [
      { byHand: "lxc exec web1 -- usermod --lock alice", answer: "repaired", why: "a locked password differs" },
      {
        byHand: "lxc exec web1 -- usermod --password '$6$other$hash' alice",
        answer: "repaired",
        why: "the foreign hash is not stored in state: the difference shows as `(changed outside of Pulumi)`",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: "lxc exec web1 -- usermod --password '$6$other$hash' alice",
        answer: "ignored",
        why: "a password is not managed if the program does not set it",
      },
    ],
  },

  outputs: {
    uid: {
      program: "without uid, home, groups, keys and password",
      byHand: "lxc exec web1 -- usermod --uid 1601 alice",
      answer: "shown",
      why: "it is the user's uid in the guest",
    },
    gid: {
      byHand: "lxc exec web1 -- usermod --gid docker alice",
      answer: "shown",
      why: "the guest chooses the primary group",
    },
    home: {
      program: "without uid, home, groups, keys and password",
      byHand: "lxc exec web1 -- usermod --home /home/somewhere --move-home alice",
      answer: "shown",
      why: "it is the user's home in the guest",
    },
    requested: { answer: "cannot drift", why: "the program's request; it is stored in state only" },
  },
});
