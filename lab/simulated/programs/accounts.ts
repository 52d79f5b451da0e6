/**
 * The programs that change users and groups. They change /etc/passwd, /etc/shadow, /etc/group and /etc/gshadow like
 * those of Debian's passwd and adduser packages.
 */
import { failure, type Machine, ok, type ProgramResult, type ProgramRun, type Programs, parseArguments } from "../machine";

type Run = ProgramRun<Machine>;

/** A file of lines with fields separated by colons. */
class Table {
  readonly rows: string[][];

  constructor(
    private readonly machine: Machine,
    private readonly path: string,
  ) {
    this.rows = machine.files
      .readText(path)
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split(":"));
  }

  find(name: string): string[] | undefined {
    return this.rows.find(([each]) => each === name);
  }

  remove(name: string): void {
    const at = this.rows.findIndex(([each]) => each === name);
    if (at >= 0) {
      this.rows.splice(at, 1);
    }
  }

  /** The first free number from 1000 on. */
  freeId(): number {
    const taken = new Set(this.rows.map((row) => Number(row[2])));
    let id = 1000;
    while (taken.has(id)) {
      id += 1;
    }
    return id;
  }

  save(): void {
    this.machine.files.writeFile(this.path, this.rows.map((row) => `${row.join(":")}\n`).join(""));
  }
}

interface Accounts {
  passwd: Table;
  shadow: Table;
  group: Table;
  gshadow: Table;
}

function open(machine: Machine): Accounts {
  const table = (name: string) => new Table(machine, `/etc/${name}`);
  return { passwd: table("passwd"), shadow: table("shadow"), group: table("group"), gshadow: table("gshadow") };
}

function save(accounts: Accounts): void {
  for (const table of Object.values(accounts) as Table[]) {
    table.save();
  }
}

/** Programs on accounts. */
export const accountPrograms: Programs<Machine> = {
  id: idProgram,
  getent: ({ machine, args }) => {
    const [database = "", ...keys] = args;
    const { rows } = new Table(machine, `/etc/${database}`);
    const wanted =
      keys.length === 0
        ? rows
        : rows.filter((row) => keys.includes(row[0] ?? "") || (database !== "shadow" && keys.includes(row[2] ?? "")));
    return { exitCode: wanted.length === 0 ? 2 : 0, stdout: wanted.map((row) => `${row.join(":")}\n`).join(""), stderr: "" };
  },
  useradd,
  usermod,
  userdel,
  groupadd: ({ machine, args }) => {
    const { options, operands } = parseArguments(args, { flags: ["-r", "--system", "-f", "--force"], valued: ["-g", "--gid"] });
    const [name = ""] = operands;
    const accounts = open(machine);
    const gid = options.get("-g") ?? options.get("--gid");
    if (accounts.group.find(name) !== undefined) {
      return options.has("-f") || options.has("--force") ? ok() : failure(9, `groupadd: group '${name}' already exists`);
    }
    if (gid !== undefined && accounts.group.rows.some((row) => row[2] === gid)) {
      return failure(4, `groupadd: GID '${gid}' already exists`);
    }
    addGroup(accounts, name, gid ?? String(accounts.group.freeId()));
    save(accounts);
    return ok();
  },
  groupmod: ({ machine, args }) => {
    const { options, operands } = parseArguments(args, { valued: ["-g", "--gid", "-n", "--new-name"] });
    const accounts = open(machine);
    const group = accounts.group.find(operands[0] ?? "");
    if (group === undefined) {
      return failure(6, `groupmod: group '${operands[0] ?? ""}' does not exist`);
    }
    group[2] = options.get("-g") ?? options.get("--gid") ?? group[2] ?? "";
    save(accounts);
    return ok();
  },
  groupdel: ({ machine, args }) => {
    const [name = ""] = args;
    const accounts = open(machine);
    const group = accounts.group.find(name);
    if (group === undefined) {
      return failure(6, `groupdel: group '${name}' does not exist`);
    }
    const user = accounts.passwd.rows.find((row) => row[3] === group[2]);
    if (user !== undefined) {
      return failure(8, `groupdel: cannot remove the primary group of user '${user[0] ?? ""}'`);
    }
    accounts.group.remove(name);
    accounts.gshadow.remove(name);
    save(accounts);
    return ok();
  },
  gpasswd: ({ machine, args }) => {
    const { options, operands } = parseArguments(args, { valued: ["-a", "--add", "-d", "--delete", "-M", "--members"] });
    const [name = ""] = operands;
    const accounts = open(machine);
    if (accounts.group.find(name) === undefined) {
      return failure(3, `gpasswd: group '${name}' does not exist in /etc/group`);
    }
    const added = options.get("-a") ?? options.get("--add");
    const removed = options.get("-d") ?? options.get("--delete");
    const members = options.get("-M") ?? options.get("--members");
    for (const user of [added, removed].filter((each): each is string => each !== undefined)) {
      if (accounts.passwd.find(user) === undefined) {
        return failure(3, `gpasswd: user '${user}' does not exist`);
      }
    }
    if (removed !== undefined && !membersOf(accounts, name).includes(removed)) {
      return failure(3, `gpasswd: user '${removed}' is not a member of '${name}'`);
    }
    setMembers(
      accounts,
      name,
      members !== undefined
        ? members.split(",").filter((each) => each !== "")
        : [...membersOf(accounts, name).filter((each) => each !== removed), ...(added === undefined ? [] : [added])],
    );
    save(accounts);
    return ok();
  },
  chpasswd: async ({ machine, args, stdin }) => {
    const { options } = parseArguments(args, { flags: ["-e", "--encrypted"] });
    const accounts = open(machine);
    for (const line of (await stdin())
      .toString()
      .split("\n")
      .filter((each) => each !== "")) {
      const [user = "", ...password] = line.split(":");
      const entry = accounts.shadow.find(user);
      if (entry === undefined) {
        return failure(1, `chpasswd: (user ${user}) pam_chauthtok() failed`);
      }
      entry[1] = options.size > 0 ? password.join(":") : `$y$simulated$${Buffer.from(password.join(":")).toString("base64url")}`;
    }
    save(accounts);
    return ok();
  },
  passwd: ({ machine, args }) => {
    const { options, operands } = parseArguments(args, { flags: ["-l", "-u", "-d", "--lock", "--unlock", "--delete"] });
    const accounts = open(machine);
    const entry = accounts.shadow.find(operands[0] ?? "");
    if (entry === undefined) {
      return failure(1, `passwd: user '${operands[0] ?? ""}' does not exist`);
    }
    if (options.has("-l") || options.has("--lock")) {
      entry[1] = `!${entry[1] ?? ""}`;
    } else if (options.has("-d") || options.has("--delete")) {
      entry[1] = "";
    } else {
      entry[1] = (entry[1] ?? "").replace(/^!/, "");
    }
    save(accounts);
    return ok();
  },
};

const userOptions = {
  flags: [
    "-m",
    "--create-home",
    "-M",
    "--no-create-home",
    "-U",
    "--user-group",
    "-N",
    "--no-user-group",
    "-r",
    "--system",
    "-a",
    "--append",
    "-L",
    "--lock",
    "-U",
    "--unlock",
  ],
  valued: [
    "-u",
    "--uid",
    "-g",
    "--gid",
    "-G",
    "--groups",
    "-s",
    "--shell",
    "-d",
    "--home",
    "--home-dir",
    "-c",
    "--comment",
    "-p",
    "--password",
    "-e",
    "--expiredate",
    "-l",
    "--login",
    "-K",
    "--key",
    "-k",
    "--skel",
  ],
};

function option(options: Map<string, string>, ...names: string[]): string | undefined {
  return names.map((name) => options.get(name)).find((value) => value !== undefined);
}

function useradd({ machine, args }: Run): ProgramResult {
  const { options, operands } = parseArguments(args, userOptions);
  const [name = ""] = operands;
  const accounts = open(machine);
  if (!/^[a-z_][a-z0-9_-]*\$?$/.test(name) || name.length > 32) {
    return failure(3, `useradd: invalid user name '${name}': use --badname to ignore`);
  }
  if (accounts.passwd.find(name) !== undefined) {
    return failure(9, `useradd: user '${name}' already exists`);
  }
  const uid = option(options, "-u", "--uid") ?? String(accounts.passwd.freeId());
  if (accounts.passwd.rows.some((row) => row[2] === uid)) {
    return failure(4, `useradd: UID ${uid} is not unique`);
  }
  const primary = option(options, "-g", "--gid");
  let gid = primary === undefined ? undefined : gidOf(accounts, primary);
  if (primary !== undefined && gid === undefined) {
    return failure(6, `useradd: group '${primary}' does not exist`);
  }
  const groups = (option(options, "-G", "--groups") ?? "").split(",").filter((each) => each !== "");
  const missing = groups.find((each) => accounts.group.find(each) === undefined);
  if (missing !== undefined) {
    return failure(6, `useradd: group '${missing}' does not exist`);
  }
  if (gid === undefined) {
    if (accounts.group.find(name) !== undefined) {
      return failure(9, `useradd: group ${name} exists - if you want to add this user to that group, use -g.`);
    }
    gid = accounts.group.rows.some((row) => row[2] === uid) ? String(accounts.group.freeId()) : uid;
    addGroup(accounts, name, gid);
  }
  const home = option(options, "-d", "--home", "--home-dir") ?? `/home/${name}`;
  accounts.passwd.rows.push([
    name,
    "x",
    uid,
    gid,
    option(options, "-c", "--comment") ?? "",
    home,
    option(options, "-s", "--shell") ?? "/bin/sh",
  ]);
  accounts.shadow.rows.push([name, option(options, "-p", "--password") ?? "!", "19700", "0", "99999", "7", "", "", ""]);
  groups.forEach((group) => setMembers(accounts, group, [...membersOf(accounts, group), name]));
  save(accounts);
  if ((options.has("-m") || options.has("--create-home")) && !machine.files.exists(home)) {
    const owner = { uid: Number(uid), gid: Number(gid) };
    machine.files.makeDirectory(home, { ...owner, mode: 0o755 });
    for (const file of machine.files.list("/etc/skel")) {
      machine.files.writeFile(`${home}/${file}`, machine.files.readText(`/etc/skel/${file}`), { ...owner, mode: 0o644 });
    }
  }
  return ok();
}

function usermod({ machine, args }: Run): ProgramResult {
  const { options, operands } = parseArguments(args, { ...userOptions, flags: [...userOptions.flags, "--move-home"] });
  const [name = ""] = operands;
  const accounts = open(machine);
  const user = accounts.passwd.find(name);
  const shadow = accounts.shadow.find(name);
  if (user === undefined) {
    return failure(6, `usermod: user '${name}' does not exist`);
  }
  const uid = option(options, "-u", "--uid");
  if (uid !== undefined && uid !== user[2] && accounts.passwd.rows.some((row) => row[2] === uid)) {
    return failure(4, `usermod: UID '${uid}' already exists`);
  }
  const groups = option(options, "-G", "--groups")
    ?.split(",")
    .filter((each) => each !== "");
  const missing = groups?.find((each) => accounts.group.find(each) === undefined);
  if (missing !== undefined) {
    return failure(6, `usermod: group '${missing}' does not exist`);
  }
  const primary = option(options, "-g", "--gid");
  const home = option(options, "-d", "--home", "--home-dir");
  const changesFiles = (uid !== undefined && uid !== user[2]) || (home !== undefined && home !== user[5]);
  const [busy] = changesFiles ? processesOf(machine, Number(user[2])) : [];
  if (busy !== undefined) {
    return failure(8, `usermod: user ${name} is currently used by process ${busy}`);
  }
  user[3] = primary === undefined ? (user[3] ?? "") : (gidOf(accounts, primary) ?? "");
  user[4] = option(options, "-c", "--comment") ?? user[4] ?? "";
  user[6] = option(options, "-s", "--shell") ?? user[6] ?? "";
  if (uid !== undefined && uid !== user[2]) {
    const tree = home ?? user[5] ?? "";
    for (const path of machine.files.tree(tree)) {
      const node = machine.files.get(path, false);
      if (node?.uid === Number(user[2])) {
        node.uid = Number(uid);
      }
    }
    user[2] = uid;
    if (machine.files.get(tree, false)?.type === "symlink") {
      save(accounts); // passwd is already changed; verified with 4.13 of Debian 12
      return failure(12, "usermod: Failed to change ownership of the home directory");
    }
  }
  if (home !== undefined && home !== user[5]) {
    const former = user[5] ?? "";
    user[5] = home;
    if ((options.has("-m") || options.has("--move-home")) && machine.files.exists(former)) {
      if (machine.files.exists(home)) {
        save(accounts); // passwd is already changed
        return failure(12, `usermod: directory ${home} exists`);
      }
      machine.files.rename(former, home);
    }
  }
  const login = option(options, "-l", "--login");
  if (login !== undefined) {
    if (accounts.passwd.find(login) !== undefined) {
      return failure(9, `usermod: user '${login}' already exists`);
    }
    user[0] = login; // the groups of which it is a member are updated, its own group keeps the name
    for (const [group = ""] of accounts.group.rows) {
      setMembers(
        accounts,
        group,
        membersOf(accounts, group).map((member) => (member === name ? login : member)),
      );
    }
    if (shadow !== undefined) {
      shadow[0] = login;
    }
  }
  const password = option(options, "-p", "--password");
  if (shadow !== undefined && password !== undefined) {
    shadow[1] = password;
  }
  if (shadow !== undefined && (options.has("-L") || options.has("--lock"))) {
    shadow[1] = `!${shadow[1] ?? ""}`;
  }
  if (groups !== undefined) {
    const append = options.has("-a") || options.has("--append");
    for (const row of accounts.group.rows) {
      const [group = ""] = row;
      const members = membersOf(accounts, group).filter((each) => each !== name);
      const keeps = groups.includes(group) || (append && membersOf(accounts, group).includes(name));
      setMembers(accounts, group, keeps ? [...members, name] : members);
    }
  }
  save(accounts);
  return ok();
}

function userdel({ machine, args }: Run): ProgramResult {
  const { options, operands } = parseArguments(args, { flags: ["-r", "--remove", "-f", "--force"] });
  const [name = ""] = operands;
  const accounts = open(machine);
  const user = accounts.passwd.find(name);
  const [busy] = user === undefined || options.has("-f") || options.has("--force") ? [] : processesOf(machine, Number(user[2]));
  if (busy !== undefined) {
    return failure(8, `userdel: user ${name} is currently used by process ${busy}`);
  }
  if (user === undefined) {
    return failure(6, `userdel: user '${name}' does not exist`);
  }
  accounts.passwd.remove(name);
  accounts.shadow.remove(name);
  for (const [group = ""] of accounts.group.rows) {
    setMembers(
      accounts,
      group,
      membersOf(accounts, group).filter((each) => each !== name),
    );
  }
  const own = accounts.group.find(name);
  if (own !== undefined && own[2] === user[3] && membersOf(accounts, name).length === 0) {
    accounts.group.remove(name);
    accounts.gshadow.remove(name);
  }
  save(accounts);
  const home = user[5] ?? "";
  if ((options.has("-r") || options.has("--remove")) && machine.files.exists(home)) {
    if (machine.files.get(home)?.uid !== Number(user[2]) && !options.has("-f") && !options.has("--force")) {
      return failure(12, `userdel: ${home} not owned by ${name}, not removing`);
    }
    machine.files.remove(home, true);
  }
  return ok();
}

function idProgram({ machine, args, user: caller }: Run): ProgramResult {
  const { options, operands } = parseArguments(args, { flags: ["-u", "-g", "-n", "-G", "-un", "-gn", "-Gn"] });
  const accounts = open(machine);
  const [name = String(caller?.uid ?? 0)] = operands;
  const user = accounts.passwd.rows.find((row) => row[0] === name || row[2] === name);
  if (user === undefined) {
    return failure(1, `id: '${name}': no such user`);
  }
  const primary = accounts.group.rows.find((row) => row[2] === user[3]);
  const groups = [
    primary,
    ...accounts.group.rows.filter((row) => row !== primary && membersOf(accounts, row[0] ?? "").includes(user[0] ?? "")),
  ];
  const named = options.has("-n") || [...options.keys()].some((key) => key.endsWith("n"));
  const keys = [...options.keys()].join("");
  if (keys.includes("u")) {
    return ok(`${(named ? user[0] : user[2]) ?? ""}\n`);
  }
  if (keys.includes("G")) {
    return ok(`${groups.map((row) => (named ? row?.[0] : row?.[2]) ?? "").join(" ")}\n`);
  }
  if (keys.includes("g")) {
    return ok(`${(named ? primary?.[0] : user[3]) ?? ""}\n`);
  }
  const shown = groups.map((row) => `${row?.[2] ?? ""}(${row?.[0] ?? ""})`).join(",");
  return ok(`uid=${user[2] ?? ""}(${user[0] ?? ""}) gid=${user[3] ?? ""}(${primary?.[0] ?? ""}) groups=${shown}\n`);
}

/** Ids of the processes that a user runs: a test gives the user directories in /proc. */
function processesOf(machine: Machine, uid: number): string[] {
  return machine.files.list("/proc").filter((name) => /^\d+$/.test(name) && machine.files.get(`/proc/${name}`)?.uid === uid);
}

function gidOf(accounts: Accounts, group: string): string | undefined {
  return accounts.group.rows.find((row) => row[0] === group || row[2] === group)?.[2];
}

function addGroup(accounts: Accounts, name: string, gid: string): void {
  accounts.group.rows.push([name, "x", gid, ""]);
  accounts.gshadow.rows.push([name, "!", "", ""]);
}

function membersOf(accounts: Accounts, group: string): string[] {
  return (accounts.group.find(group)?.[3] ?? "").split(",").filter((each) => each !== "");
}

function setMembers(accounts: Accounts, group: string, members: string[]): void {
  const text = [...new Set(members)].join(",");
  for (const row of [accounts.group.find(group), accounts.gshadow.find(group)]) {
    if (row !== undefined) {
      row[3] = text;
    }
  }
}

/** Kills all processes of a user: `pkill -KILL -U UID`. */
export function killProcesses({ machine, args }: Run): ProgramResult {
  const { options } = parseArguments(args, { flags: ["-KILL"], valued: ["-U"] });
  const found = processesOf(machine, Number(options.get("-U")));
  found.forEach((process) => machine.files.remove(`/proc/${process}`, true));
  return found.length > 0 ? ok() : failure(1, "");
}

/** Checks a file of rules. */
export async function visudo({ machine, args, stdin }: Run): Promise<ProgramResult> {
  if (args[0] === "--version") {
    return ok("visudo version 1.9.13p3\nvisudo grammar version 50\n");
  }
  const { options } = parseArguments(args, { flags: ["-c", "--check", "-q", "--quiet"], valued: ["-f", "--file"] });
  const path = options.get("-f") ?? options.get("--file") ?? "/etc/sudoers";
  const text = path === "-" || path === "/dev/stdin" ? (await stdin()).toString() : machine.files.readText(path);
  const bad = text
    .split("\n")
    .findIndex(
      (line) => line !== "" && !/^(#|@|Defaults\b|[%\w.-]+ +\w+ *= *(\([\w:]+\))? *(NOPASSWD: *|PASSWD: *)?\S)/.test(line),
    );
  return bad < 0 ? ok(`${path}: parsed OK\n`) : failure(1, `${path}:${bad + 1}:1: syntax error`);
}
