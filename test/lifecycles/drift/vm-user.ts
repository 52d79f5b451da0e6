import type { SimulatedLab } from "../../../lab/simulated";
import { vmUserLifecycle } from "../../../provider/resources/vm-user";
import type { Hand } from "./by-hand";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, see, standalone } from "./world";

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
function edit(words: string, path: string, change: (text: string) => string): Hand {
  return {
    words,
    act: (lab) => {
      const files = filesOf(lab);
      files.writeFile(path, change(files.readText(path)));
    },
  };
}

/** A file or directory of the guest, as it is from outside. */
function lookAt(lab: SimulatedLab, path: string): unknown {
  const found = filesOf(lab).get(path, false);
  if (found === undefined) {
    return undefined;
  }
  const { uid, gid, mode } = found;
  const lines = found.type === "file" ? filesOf(lab).readText(path).split("\n").sort() : []; // no file of these is read in its order
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
          words: "there is an instance",
          act: (lab) => {
            const type = program === "in a virtual machine" ? "virtual-machine" : "container";
            const devices = { root: { type: "disk", path: "/", pool: "default" } };
            lab.seedInstances(1, { host: "bcn2", prefix: "web", type, devices });
          },
        },
        "lxc exec web1 -- groupadd docker",
      ],
      look: async (one) => [await see(one, "/1.0/instances/web1"), ...LOOKED_AT.map((path) => lookAt(one.lab, path))],
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
        answer: "made again",
        why: "there is none in /etc/passwd. A home that is left is its own again",
      },
    ],
    "the instance": [
      {
        byHand: "lxc stop web1",
        cure: "lxc start web1",
        answer: "left alone",
        why: "users of a container that is stopped are read from its files; a change of them waits until it runs",
      },
      {
        program: "in a virtual machine",
        byHand: "lxc stop web1",
        cure: "lxc start web1",
        answer: "left alone",
        why: "nobody can look into a virtual machine that is off: its users are taken to be as they were",
      },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether a user that others made is taken over"),
    authorizedKeysMode: how("whether keys that are not listed are removed"),
    homeOnDelete: how("what becomes of the home when the user is removed"),
    instance: {
      answer: "cannot drift",
      why: "it is where the user is looked for; an instance that is gone takes its users with it",
    },
    project: { answer: "cannot drift", why: "as `instance`" },
    name: {
      byHand: "lxc exec web1 -- usermod --login alicia alice",
      answer: "refused",
      says: /cannot be as wanted in instance "web1".*the uid 1500 belongs to the user "alicia"/,
      cure: "lxc exec web1 -- usermod --login alice alicia",
      why: "a user is found by its name, so the preview shows a new one; but uid and home are those of the renamed user. Renamed back, it is taken up with `adopt: true`",
    },
    uid: [
      { byHand: "lxc exec web1 -- usermod --uid 1600 alice", answer: "repaired", why: "a uid that was given" },
      {
        program: "without uid, home, groups, keys and password",
        byHand: "lxc exec web1 -- usermod --uid 1600 alice",
        answer: "left alone",
        why: "a uid that was not given is the guest's choice",
      },
    ],
    home: [
      {
        byHand: "lxc exec web1 -- usermod --home /home/alice --move-home alice",
        answer: "repaired",
        why: "a home that was given; it is moved back",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: "lxc exec web1 -- usermod --home /home/elsewhere --move-home alice",
        answer: "left alone",
        why: "a home that was not given is the guest's choice",
      },
    ],
    shell: { byHand: "lxc exec web1 -- usermod --shell /bin/sh alice", answer: "repaired", why: "it is the program's" },
    groups: [
      { byHand: "lxc exec web1 -- gpasswd --delete alice adm", answer: "repaired", why: "a group that was given is missing" },
      {
        byHand: "lxc exec web1 -- usermod --append --groups docker alice",
        answer: "repaired",
        why: "all supplementary groups are the program's, when any list of them was given",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: "lxc exec web1 -- usermod --append --groups docker alice",
        answer: "left alone",
        why: "groups that were not given are not managed",
      },
    ],
    sudo: [
      { byHand: `lxc exec web1 -- rm ${RULES}`, answer: "repaired", why: "rights that are missing" },
      {
        byHand: edit(`\`${RULES}\` is edited`, RULES, () => "alice ALL=(ALL) NOPASSWD: /bin/ls\n"),
        answer: "repaired",
        why: "other rights show as `custom`",
      },
      {
        byHand: `lxc exec web1 -- chmod 666 ${RULES}`,
        answer: "repaired",
        why: "sudo does not read a file with these permissions",
      },
      {
        byHand: edit(`a comment in \`${RULES}\``, RULES, (text) => `# a comment\n${text}`),
        answer: "left alone",
        why: "it grants the same",
      },
      {
        byHand: {
          words: "`/etc/sudoers.d/docker` grants something to a group of the user",
          act: (lab) => {
            filesOf(lab).writeFile("/etc/sudoers.d/docker", "%docker ALL=(ALL) ALL\n");
          },
        },
        answer: "left alone",
        why: "only the user's own file is looked at",
      },
    ],
    authorizedKeys: [
      {
        byHand: edit(`a key is added to \`${KEYS}\``, KEYS, (text) => `${text}${STRANGER}\n`),
        answer: "repaired",
        why: "all keys are the program's",
      },
      {
        byHand: edit("a key is taken out", KEYS, (text) => text.replace(`${LAPTOP}\n`, "")),
        answer: "repaired",
        why: "a key that is missing",
      },
      { byHand: `lxc exec web1 -- rm ${KEYS}`, answer: "repaired", why: "all keys are missing" },
      {
        byHand: `lxc exec web1 -- chmod 666 ${KEYS}`,
        answer: "repaired",
        why: "sshd does not heed a file that others can write to, so nobody could log in",
      },
      {
        byHand: `lxc exec web1 -- chown nobody ${KEYS}`,
        answer: "repaired",
        why: "sshd does not heed a file that belongs to somebody else",
      },
      {
        byHand: `lxc exec web1 -- chmod 777 ${HOME}/.ssh`,
        answer: "repaired",
        why: "sshd does not heed what is in a directory that others can write to",
      },
      {
        byHand: `lxc exec web1 -- chown nobody ${HOME}/.ssh`,
        answer: "repaired",
        why: "nor in one that belongs to somebody else",
      },
      {
        byHand: `lxc exec web1 -- chmod 777 ${HOME}`,
        answer: "refused",
        says: /sshd lets nobody in with the keys of user "alice".*Type there: chmod go-w \/home\/al/,
        cure: `lxc exec web1 -- chmod 755 ${HOME}`,
        why: "sshd heeds no keys in a home that others can write to. The home is the user's: preview and `up` say what to type",
      },
      {
        byHand: edit("their order is changed", KEYS, () => `${DESKTOP}\n\n# mine\n${LAPTOP}\n`),
        answer: "left alone",
        why: "it means the same: a set of keys, with comments",
      },
      {
        program: "with additive keys",
        byHand: edit(`a key is added to \`${KEYS}\``, KEYS, (text) => `${text}${STRANGER}\n`),
        answer: "left alone",
        why: "only the listed keys are looked after",
      },
      {
        program: "with additive keys",
        byHand: edit("a listed key is taken out", KEYS, (text) => text.replace(`${LAPTOP}\n`, "")),
        answer: "repaired",
        why: "the listed keys are looked after; others stay",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: {
          words: "keys are written by hand",
          act: (lab) => {
            filesOf(lab).makeDirectory("/home/alice/.ssh", { parents: true });
            filesOf(lab).writeFile(DEFAULT_KEYS, `${STRANGER}\n`);
          },
        },
        answer: "left alone",
        why: "keys that were not given are not managed",
      },
    ],
    passwordHash: [
      { byHand: "lxc exec web1 -- usermod --lock alice", answer: "repaired", why: "a locked password is another one" },
      {
        byHand: "lxc exec web1 -- usermod --password '$6$other$hash' alice",
        answer: "repaired",
        why: "the foreign hash does not get into state: the difference shows as `(changed in the instance)`",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: "lxc exec web1 -- usermod --password '$6$other$hash' alice",
        answer: "left alone",
        why: "a password that was not given is not managed",
      },
    ],
  },

  outputs: {
    uid: {
      program: "without uid, home, groups, keys and password",
      byHand: "lxc exec web1 -- usermod --uid 1601 alice",
      answer: "shown",
      why: "it is the user's number in the guest",
    },
    gid: {
      byHand: "lxc exec web1 -- usermod --gid docker alice",
      answer: "shown",
      why: "the primary group is the guest's choice",
    },
    home: {
      program: "without uid, home, groups, keys and password",
      byHand: "lxc exec web1 -- usermod --home /home/somewhere --move-home alice",
      answer: "shown",
      why: "it is the user's home in the guest",
    },
    requested: { answer: "cannot drift", why: "what the program asked for; it is kept in state alone" },
  },
});
