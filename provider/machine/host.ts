/**
 * A host as a machine, over SSH. Its files are read and created by programs in Perl, which Debian and Ubuntu always have: they
 * tell the kernel's "no such file" from all other errors, which coreutils only tell by their messages.
 */
import { posix } from "node:path";
import type { Deadline } from "../support/deadline";
import { CommandError, RefusedError, ResponseShapeError } from "../support/errors";
import type { SshConnection } from "../transport/ssh";
import { type FileDigest, type FileOwnership, type Machine, type MachineFile, pathsOfProgram } from "./machine";
import { runSteps } from "./steps";

/**
 * Prints a line for each two arguments, `content` or `digest` and a path: `absent`, `error` with its text in hexadecimal, or type, mode
 * (octal), uid, gid and details of what is at the path. Those of `content` are the text of a file, the target of a link, or the names
 * in a directory, in hexadecimal; that of `digest` is the SHA-256 of a file.
 */
export const READ_FILES = `
use Fcntl;
sub look {
  my ($details, $path) = @_;
  my @is = lstat $path;
  if (!@is) { return "absent" if $!{ENOENT} || $!{ENOTDIR}; die "$path: $!\\n"; }
  my $type = -l _ ? "symlink" : -f _ ? "file" : -d _ ? "directory" : "other";
  my $shown = sprintf "%s %o %d %d ", $type, $is[2] & 07777, $is[4], $is[5];
  if ($type eq "file") {
    sysopen(my $file, $path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) or die "$path: $!\\n";
    if ($details eq "content") { binmode $file; local $/; return $shown . unpack "H*", <$file> // ""; }
    open(STDIN, "<&", $file) or die "$path: $!\\n";
    my $sum = qx(sha256sum);
    die "sha256sum of $path failed\\n" if $? || $sum !~ /^([0-9a-f]{64}) /;
    return $shown . $1;
  }
  if ($details eq "content" && $type eq "symlink") { return $shown . unpack "H*", readlink $path // die "$path: $!\\n"; }
  if ($details eq "content" && $type eq "directory") {
    opendir(my $directory, $path) or die "$path: $!\\n";
    return $shown . unpack "H*", join "\\0", sort grep { !/^\\.\\.?$/ } readdir $directory;
  }
  return $shown;
}
while (@ARGV) {
  my ($details, $path) = splice @ARGV, 0, 2;
  my $line = eval { look($details, $path) } // "error " . unpack "H*", $@;
  print "$line\\n";
}
`.trim();

/** Creates a file with the content of standard input. Arguments: path, mode (octal), uid, gid. Removes an existing file first. */
export const CREATE_FILE = `
use Fcntl;
my ($path, $mode, $uid, $gid) = @ARGV;
unlink $path or $!{ENOENT} or die "$path: $!\\n";
sysopen(my $file, $path, O_WRONLY | O_CREAT | O_EXCL, 0600) or die "$path: $!\\n";
binmode STDIN; binmode $file;
while (sysread STDIN, my $part, 65536) { print $file $part or die "$path: $!\\n"; }
chown($uid, $gid, $file) && chmod(oct $mode, $file) && close $file or die "$path: $!\\n";
`.trim();

/** Prints the number of the first argument that is a program; nothing if none is one. Follows links. */
export const FIND_PROGRAM = `
for my $at (0 .. $#ARGV) {
  if (!stat $ARGV[$at]) { die "$ARGV[$at]: $!\\n" unless $!{ENOENT} || $!{ENOTDIR}; next; }
  if (-f _ && -x _) { print $at; exit; }
}
`.trim();

const TYPES = ["file", "directory", "symlink", "other"] as const;

/**
 * Runs a program with variables that are the first lines of its input, up to an empty one: what is on a command line, all users
 * of the host can read.
 */
export const WITH_ENVIRONMENT = `
while IFS= read -r line && [ -n "$line" ]; do value=$(printf '%b.' "$line"); export "\${value%.}"; done
exec "$@"
`.trim();

/** A value for {@link WITH_ENVIRONMENT}: `%b` of printf(1) reads it back. */
function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

interface Read {
  readonly details: "content" | "digest";
  readonly path: string;
  readonly deadline: Deadline;
}

interface Waiting {
  readonly wanted: Read;
  readonly resolve: (line: string) => void;
  readonly reject: (error: unknown) => void;
}

/** The reads on a host. Those that are asked for at the same time, by any number of resources, cost one command. */
class Reads {
  private waiting: Waiting[] = [];

  constructor(private readonly ssh: SshConnection) {}

  /** The line of {@link READ_FILES} for it. */
  read(wanted: Read): Promise<string> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ wanted, resolve, reject });
      if (this.waiting.length === 1) {
        setImmediate(() => void this.run());
      }
    });
  }

  private async run(): Promise<void> {
    const all = this.waiting;
    this.waiting = [];
    try {
      const args = all.flatMap(({ wanted: { details, path } }) => [details, path]);
      const deadline = all.map(({ wanted }) => wanted.deadline).reduce((a, b) => (a.remainingMs > b.remainingMs ? a : b));
      const { stdout } = await this.ssh.run(["perl", "-e", READ_FILES, ...args], { deadline });
      const lines = stdout.split("\n");
      for (const [index, { wanted, resolve, reject }] of all.entries()) {
        const line = lines[index] ?? "";
        if (line === "") {
          reject(new ResponseShapeError(`Reading ${wanted.path} on ${this.ssh.name} was not answered`));
        } else {
          resolve(line);
        }
      }
    } catch (error) {
      for (const { reject } of all) {
        reject(error);
      }
    }
  }
}

const reads = new WeakMap<SshConnection, Reads>();

function readsOf(ssh: SshConnection): Reads {
  const known = reads.get(ssh) ?? new Reads(ssh);
  reads.set(ssh, known);
  return known;
}

/** @param deadline - Of the work on the host. */
export function hostMachine(ssh: SshConnection, deadline: Deadline): Machine {
  const perl = async (script: string, ...args: string[]): Promise<string> =>
    (await ssh.run(["perl", "-e", script, ...args], { deadline })).stdout;

  const look = async (
    path: string,
    details: Read["details"],
  ): Promise<[FileDigest["type"], FileOwnership, string] | undefined> => {
    const answer = await readsOf(ssh).read({ details, path, deadline });
    if (answer === "absent") {
      return undefined;
    }
    const [word = "", mode = "", uid, gid, found = ""] = answer.split(" ");
    if (word === "error") {
      throw new CommandError(ssh.name, "perl", 1, Buffer.from(mode, "hex").toString("utf8").trim());
    }
    const type = TYPES.find((each) => each === word);
    if (type === undefined || !/^[0-7]+$/.test(mode)) {
      throw new ResponseShapeError(`Reading ${path} on ${ssh.name} answered ${JSON.stringify(answer.slice(0, 200))}`);
    }
    return [type, { mode: Number.parseInt(mode, 8), uid: Number(uid), gid: Number(gid) }, found];
  };

  const findProgram = async (paths: readonly string[]): Promise<string | undefined> => {
    const at = await perl(FIND_PROGRAM, ...paths);
    return at === "" ? undefined : paths[Number(at)];
  };

  const machine: Machine = {
    name: ssh.name,
    place: `on ${ssh.name}`,
    login: ssh.user,
    run(argv, { as, environment, stdin, allowFailure = false } = {}) {
      const user = as === undefined ? [] : ["setpriv", `--reuid=${as.uid}`, `--regid=${as.gid}`, "--clear-groups", "--"];
      const how = { deadline, allowFailure };
      if (environment === undefined) {
        return ssh.run([...user, ...argv], { ...how, ...(stdin !== undefined && { stdin }) });
      }
      const variables = Object.entries(environment).map(([name, value]) => `${name}=${escaped(value)}\n`);
      return ssh.run([...user, "sh", "-c", WITH_ENVIRONMENT, "sh", ...argv], {
        ...how,
        stdin: `${variables.join("")}\n${stdin ?? ""}`,
      });
    },
    runSteps: (steps, options) => runSteps(machine, steps, options),
    async readFile(path) {
      const found = await look(path, "content");
      if (found === undefined) {
        return undefined;
      }
      const [type, ownership, details] = found;
      if (type === "other") {
        throw new RefusedError(
          `${path} on ${ssh.name} is neither a file nor a directory nor a link, and cannot be read. Remove it there`,
        );
      }
      return { type, ...ownership, content: contentFrom(path, type, Buffer.from(details, "hex").toString("utf8")) };
    },
    async digestFile(path) {
      const found = await look(path, "digest");
      return found && { type: found[0], ...found[1], sha256: found[2] };
    },
    async createFile(path, { mode, uid, gid, content }) {
      const argv = ["perl", "-e", CREATE_FILE, path, mode.toString(8), String(uid), String(gid)];
      await ssh.run(argv, { deadline, stdin: content });
    },
    isProgram: async (path) => (await findProgram([path])) !== undefined,
    findProgram: (program) => findProgram(pathsOfProgram(program)),
    async removeFile(path) {
      await ssh.run(["rm", "-f", "-d", "--", path], { deadline });
    },
  };
  return machine;
}

function contentFrom(path: string, type: MachineFile["type"], text: string): string {
  switch (type) {
    case "file":
      return text;
    case "symlink":
      return posix.resolve(posix.dirname(path), text);
    case "directory":
      return JSON.stringify({ metadata: text === "" ? [] : text.split("\0") });
  }
}
