import assert from "node:assert/strict";
import { join } from "node:path";
import type { RealLab } from "../../lab/real";
import { installOf } from "../../lab/real/flavours";
import type { HostAddress } from "../../lab/real/shapes";
import { fingerprintOf } from "../../provider/lxd/images/files";
import { disconnectAll } from "../../provider/transport/pool";
import { attachOrSkip, isInLab } from "./real-lab";

/** Addresses of the lab's hosts. */
export const ADDRESSES = { bcn2: "192.168.1.102", bcn1: "192.168.1.101", bcn3: "192.168.1.103" } as const;
export type HostName = keyof typeof ADDRESSES;

/** The hosts of a lab of any shape, in its order. */
export const PLACES = ["first", "second", "third"] as const;
export type Place = (typeof PLACES)[number];

const isPlace = (host: HostName | Place): host is Place => PLACES.some((place) => place === host);

/** The hosts of a lab, as suites use them: arguments of resources, and commands. A suite for labs of every shape knows them by place alone. */
export class BareHosts {
  /** From the suite's first hook on. */
  lab!: RealLab;

  readonly at = (host: HostName | Place): HostAddress =>
    isPlace(host)
      ? (this.lab.hosts[PLACES.indexOf(host)] ?? assert.fail(`the lab has no ${host} host`))
      : { name: host, address: ADDRESSES[host] };

  /** `connection` to a host. */
  readonly to = (host: HostName | Place, more: object = {}): object => ({
    host: this.at(host).address,
    user: this.lab.shape.user,
    privateKeyPath: join(this.lab.home, ".ssh", "id_ed25519"),
    ...more,
  });

  /** Arguments of a host's LxdNode. */
  readonly node = (host: HostName | Place, more: object = {}): object => ({
    connection: this.to(host),
    install: installOf(this.lab.flavour),
    ...more,
  });

  /** Arguments of a host's LxdClusterMember: bcn2, or the first host, bootstraps the cluster, and the others join it. */
  readonly member = (host: HostName | Place, more: object = {}): object => {
    const first = isPlace(host) ? "first" : "bcn2";
    return {
      connection: this.to(host),
      name: this.at(host).name,
      address: this.at(host).address,
      ...(host === first ? {} : { cluster: { endpoints: [this.to(first)] } }),
      timeouts: { create: 300 },
      ...more,
    };
  };

  /** The files of one of the lab's guest images, with the value that the class of LxdImage computes. */
  readonly imageFiles = async (name = "debian-12") => {
    const folder = join(this.lab.home, "lxd-images", name);
    const files = { metadataPath: join(folder, "metadata.tar.xz"), rootfsPath: join(folder, "rootfs.squashfs") };
    return { ...files, sourceFingerprint: await fingerprintOf(files) };
  };

  /** Runs a command on a host. It must succeed. Returns its output, trimmed. */
  readonly onHost = async (host: HostName | Place, ...argv: string[]): Promise<string> => {
    const { name } = this.at(host);
    const { stdout, stderr, exitCode } = await this.lab.hostExec(name, argv);
    assert.equal(exitCode, 0, `${name}: ${argv.join(" ")}: ${stderr}${stdout}`);
    return stdout.trim();
  };

  /** Runs a shell script on a host. It must succeed. Returns its output, trimmed. */
  readonly inShell = (host: HostName | Place, script: string): Promise<string> => this.onHost(host, "sh", "-c", script);

  /** Joins a host to the cluster of bcn2, as an administrator does. */
  readonly joinByHand = async (host: HostName): Promise<void> => {
    const { client, admin } = this.lab.flavour;
    const token = (await this.onHost("bcn2", client, "cluster", "add", host)).split("\n").at(-1) ?? "";
    const preseed = { cluster: { enabled: true, server_address: `${ADDRESSES[host]}:8443`, cluster_token: token } };
    await this.inShell(host, `printf '%s' '${JSON.stringify(preseed)}' | ${admin.join(" ")} init --preseed`);
  };

  /** Names of the members of a host's cluster, in order. */
  readonly membersOf = async (host: HostName | Place): Promise<string[]> =>
    (await this.onHost(host, this.lab.flavour.client, "cluster", "list", "--format=csv"))
      .split("\n")
      .map((line) => line.split(",", 1)[0] ?? "")
      .sort();
}

/** For a suite: its hosts are bare file systems before it and after it. Outside a lab, the suite is skipped. */
export function bareHosts(only?: readonly HostName[], labOptions = ""): BareHosts {
  const hosts = new BareHosts();

  before(async function () {
    hosts.lab = await attachOrSkip(this, labOptions);
    await hosts.lab.resetHosts(only);
  });

  // A provider process and its connections last for one operation of the engine.
  afterEach(() => disconnectAll());

  after(async () => {
    // Also runs if the suite was skipped.
    if (isInLab) {
      await hosts.lab.resetHosts(only);
    }
  });

  return hosts;
}
