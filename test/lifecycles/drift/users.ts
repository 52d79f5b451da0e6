import { hostUserLifecycle, vmUserLifecycle } from "../../../provider/resources/machine-user";
import { edit, GUEST_INPUTS, guestRows, HOST_INPUTS, HOST_ROWS, IN_A_VM, IN_GUEST, ON_HOST, type Way } from "./machines";
import { driftTable, type Entry, how } from "./table";

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

const GIVEN = {
  name: "alice",
  uid: 1500,
  home: HOME,
  groups: ["adm"],
  sudo: "passwordless",
  authorizedKeys: [LAPTOP, DESKTOP],
  passwordHash: HASH,
};

const PROGRAMS = {
  "with additive keys": { authorizedKeysMode: "additive" },
  "without uid, home, groups, keys and password": {
    uid: undefined,
    home: undefined,
    groups: undefined,
    authorizedKeys: undefined,
    passwordHash: undefined,
  },
};

function tableOf(way: Way) {
  const { run, files: filesOf } = way;
  const object = {
    "the user itself": {
      byHand: run("userdel alice"),
      answer: "recreated",
      why: "/etc/passwd has no such user. A remaining home is reused",
    },
  } satisfies Record<string, Entry>;
  const inputs = {
    adopt: how("whether an existing user is adopted"),
    authorizedKeysMode: how("whether unlisted keys are removed"),
    homeOnDelete: how("what happens to the home when the user is removed"),
    name: {
      byHand: run("usermod --login alicia alice"),
      answer: "refused",
      says: /cannot be set up .*the uid 1500 belongs to the user "alicia"/,
      cure: run("usermod --login alice alicia"),
      why: "a user is found by its name, so the preview shows a new one; but the renamed user has its uid and home. Renamed back, it is adopted with `adopt: true`",
    },
    uid: [
      { byHand: run("usermod --uid 1600 alice"), answer: "repaired", why: "a uid of the program" },
      {
        program: "without uid, home, groups, keys and password",
        byHand: run("usermod --uid 1600 alice"),
        answer: "ignored",
        why: "the guest chooses a uid that the program does not set",
      },
    ],
    home: [
      {
        byHand: run("usermod --home /home/alice --move-home alice"),
        answer: "repaired",
        why: "a home of the program; it is moved back",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: run("usermod --home /home/elsewhere --move-home alice"),
        answer: "ignored",
        why: "the guest chooses a home that the program does not set",
      },
    ],
    shell: { byHand: run("usermod --shell /bin/sh alice"), answer: "repaired", why: "the program defines it" },
    groups: [
      { byHand: run("gpasswd --delete alice adm"), answer: "repaired", why: "a missing group of the program" },
      {
        byHand: run("usermod --append --groups docker alice"),
        answer: "repaired",
        why: "a list of groups defines all supplementary groups",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: run("usermod --append --groups docker alice"),
        answer: "ignored",
        why: "groups are not managed if the program does not set them",
      },
    ],
    sudo: [
      { byHand: run(`rm ${RULES}`), answer: "repaired", why: "missing permissions" },
      {
        byHand: edit(way, `\`${RULES}\` is edited`, RULES, () => "alice ALL=(ALL) NOPASSWD: /bin/ls\n"),
        answer: "repaired",
        why: "other permissions show as `custom`",
      },
      {
        byHand: run(`chmod 666 ${RULES}`),
        answer: "repaired",
        why: "sudo does not read a file with these permissions",
      },
      {
        byHand: edit(way, `a comment in \`${RULES}\``, RULES, (text) => `# a comment\n${text}`),
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
        byHand: edit(way, `a key is added to \`${KEYS}\``, KEYS, (text) => `${text}${STRANGER}\n`),
        answer: "repaired",
        why: "the program defines all keys",
      },
      {
        byHand: edit(way, "a key is removed from it", KEYS, (text) => text.replace(`${LAPTOP}\n`, "")),
        answer: "repaired",
        why: "a missing key",
      },
      { byHand: run(`rm ${KEYS}`), answer: "repaired", why: "all keys are missing" },
      {
        byHand: run(`chmod 666 ${KEYS}`),
        answer: "repaired",
        why: "sshd ignores a file that others can write to, so no login would work",
      },
      {
        byHand: run(`chown nobody ${KEYS}`),
        answer: "repaired",
        why: "sshd ignores a file that belongs to another user",
      },
      {
        byHand: run(`chmod 777 ${HOME}/.ssh`),
        answer: "repaired",
        why: "sshd ignores the content of a directory that others can write to",
      },
      {
        byHand: run(`chown nobody ${HOME}/.ssh`),
        answer: "repaired",
        why: "and of one that belongs to another user",
      },
      {
        byHand: run(`chmod 777 ${HOME}`),
        answer: "refused",
        says: /sshd ignores the keys of user "alice".*Type there: chmod go-w \/home\/al/,
        cure: run(`chmod 755 ${HOME}`),
        why: "sshd ignores keys in a home that others can write to. The user owns the home: preview and `up` show the command to run",
      },
      {
        byHand: edit(way, "their order is changed", KEYS, () => `${DESKTOP}\n\n# mine\n${LAPTOP}\n`),
        answer: "ignored",
        why: "both files mean the same: a set of keys, with comments",
      },
      {
        program: "with additive keys",
        byHand: edit(way, `a key is added to \`${KEYS}\``, KEYS, (text) => `${text}${STRANGER}\n`),
        answer: "ignored",
        why: "only the listed keys are managed",
      },
      {
        program: "with additive keys",
        byHand: edit(way, "a listed key is removed", KEYS, (text) => text.replace(`${LAPTOP}\n`, "")),
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
      { byHand: run("usermod --lock alice"), answer: "repaired", why: "a locked password differs" },
      {
        byHand: run("usermod --password '$6$other$hash' alice"),
        answer: "repaired",
        why: "the foreign hash is not stored in state: the difference shows as `(changed outside of Pulumi)`",
      },
      {
        program: "without uid, home, groups, keys and password",
        byHand: run("usermod --password '$6$other$hash' alice"),
        answer: "ignored",
        why: "a password is not managed if the program does not set it",
      },
    ],
  } satisfies Record<string, Entry>;
  const outputs = {
    uid: {
      program: "without uid, home, groups, keys and password",
      byHand: run("usermod --uid 1601 alice"),
      answer: "shown",
      why: "it is the user's uid in the guest",
    },
    gid: {
      byHand: run("usermod --gid docker alice"),
      answer: "shown",
      why: "the guest chooses the primary group",
    },
    home: {
      program: "without uid, home, groups, keys and password",
      byHand: run("usermod --home /home/somewhere --move-home alice"),
      answer: "shown",
      why: "it is the user's home in the guest",
    },
    requested: { answer: "cannot drift", why: "the program's request; it is stored in state only" },
  } satisfies Record<string, Entry>;
  const start = (program: string) => way.start(program, { prepare: [run("groupadd docker")], looksAt: LOOKED_AT });
  return { object, inputs, outputs, start };
}

const inGuest = tableOf(IN_GUEST);
const onHost = tableOf(ON_HOST);

export const vmUserDrift = driftTable(vmUserLifecycle, {
  ...inGuest,
  given: { ...GIVEN, instance: "web1" },
  programs: { ...PROGRAMS, [IN_A_VM]: {} },
  object: { ...inGuest.object, ...guestRows("users") },
  inputs: { ...GUEST_INPUTS, ...inGuest.inputs },
});

export const hostUserDrift = driftTable(hostUserLifecycle, {
  ...onHost,
  given: GIVEN,
  programs: PROGRAMS,
  object: { ...onHost.object, ...HOST_ROWS },
  inputs: { ...HOST_INPUTS, ...onHost.inputs },
});
