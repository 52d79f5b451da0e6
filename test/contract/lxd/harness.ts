/** What the contract suite needs of hosts, simulated or real, and how its parts access them. */
import assert from "node:assert/strict";
import type { FlavourName } from "../../../lab/debian-servers";
import { LxdClient } from "../../../provider/lxd/client/client";
import { endpointOf } from "../../../provider/lxd/client/endpoint";
import { fingerprintOf, type ImageFiles } from "../../../provider/lxd/images/files";
import type { InstanceWork } from "../../../provider/lxd/instances/instances";
import { Deadline } from "../../../provider/support/deadline";
import { hasCode, messageOf } from "../../../provider/support/errors";
import { type Connection, connectionSchema } from "../../../provider/transport/connection";
import { connect } from "../../../provider/transport/pool";
import type { SshConnection } from "../../../provider/transport/ssh";
import { type Failure, type Server, serverOf } from "./servers";

/** One host, bare at first: reachable by SSH as root, with the flavour's server in its package sources and not installed. */
export interface HarnessHost {
  readonly name: string;
  /** Its future cluster address. */
  readonly address: string;
  readonly connection: object;
}

/** Two hosts, an image, and control over them. */
export interface LxdHarness {
  readonly flavour: FlavourName;
  /** The hosts, as the report names them. */
  readonly kind: `${"real" | "simulated"}${"" | ", strict"}`;
  readonly primary: HarnessHost;
  readonly secondary: HarnessHost;
  /** An image of a guest that does nothing, as metadata and root file system. */
  readonly image: ImageFiles;
  /** Another one, which an image server offers before it. */
  readonly otherImage: ImageFiles;
  /** An image of a small Debian with cloud-init. */
  readonly debian: ImageFiles;
  powerOff(name: string): Promise<void>;
  /** Ends the daemon at once, as a crash does, and starts it again. */
  killLxd(name: string): Promise<void>;
  /** Starts a process on a host that takes an address and UDP port, which the host need not have yet. Returns what ends it. */
  listen(name: string, address: string, port: number): Promise<() => Promise<void>>;
  /** Leaves dpkg interrupted on a host, and adds a broken package source `cdrom:[Debian 12]/`. */
  hurtPackages(name: string): Promise<void>;
  /** Releases the resources of the suite. */
  stop(): Promise<void>;
}

/** One of the two hosts. */
export type Which = "primary" | "secondary";

/** Timeout of one step on busy real hosts, for example the installation of LXD. */
const STEP_SECONDS = 300;

/** The hosts as the parts of the suite use them. */
export class ContractLab {
  readonly server: Server;

  constructor(readonly harness: LxdHarness) {
    this.server = serverOf(harness.flavour);
  }

  /** Name of the image's alias, of the pool, of the bridge, and of the instance that the parts share, which is a Debian. */
  readonly alias = "contract";
  readonly pool = "default";
  readonly bridge = "lxdbr0";
  readonly instance = "c1";
  readonly project = "default";

  /** Of the image that the suite imports. */
  async fingerprint(): Promise<string> {
    return fingerprintOf(this.harness.image);
  }

  deadline(what = "the step"): Deadline {
    return new Deadline(STEP_SECONDS, what);
  }

  connection(which: Which): Connection {
    return connectionSchema.parse(this.harness[which].connection);
  }

  ssh(which: Which): Promise<SshConnection> {
    return connect(this.connection(which), { deadline: this.deadline() });
  }

  /** LXD's API on a host. */
  async lxd(which: Which = "primary"): Promise<LxdClient> {
    const deadline = this.deadline();
    return new LxdClient(await endpointOf(await this.ssh(which), deadline), deadline);
  }

  /** Operations on the suite's instance. */
  async work(name = this.instance): Promise<InstanceWork> {
    const deadline = this.deadline(`the step with ${name}`);
    return { lxd: await this.lxd(), project: this.project, name, deadline, progress: () => undefined, warn: () => undefined };
  }
}

/** Asserts that LXD refuses a request at once. */
export async function refused(request: Promise<unknown>, status: number, reply: RegExp): Promise<void> {
  await assert.rejects(request, (error: unknown) => {
    assert.ok(hasCode(error, "api"), messageOf(error));
    assert.match(error.reply, reply, `${error.status}: ${error.reply}`);
    assert.equal(error.status, status, error.reply);
    return true;
  });
}

/** Asserts that a request fails in the way of the server. */
export function fails(request: Promise<unknown>, { status, reply }: Failure): Promise<void> {
  return status === "operation" ? failed(request, reply) : refused(request, status, reply);
}

/** Asserts that LXD accepts a request and that its operation fails. */
export async function failed(request: Promise<unknown>, reply: RegExp): Promise<void> {
  await assert.rejects(request, (error: unknown) => {
    assert.ok(hasCode(error, "operation"), messageOf(error));
    assert.match(error.reply, reply);
    return true;
  });
}
