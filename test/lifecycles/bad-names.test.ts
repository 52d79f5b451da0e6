import assert from "node:assert/strict";
import { SimulatedLab } from "../../lab/simulated";
import { provider } from "../../provider/entry";
import { NODE_TERMS } from "../../provider/host/deb-upgrade";
import { bringSnap } from "../../provider/host/snapd";
import type { LxdClient } from "../../provider/lxd/client/client";
import { changeMember, forgetMember, getMember, removeMember } from "../../provider/lxd/cluster/cluster";
import { createAlias, deleteAlias, findAlias, moveAlias } from "../../provider/lxd/images/aliases";
import { deleteImage, findImage } from "../../provider/lxd/images/images";
import {
  deleteInstance,
  findInstance,
  forceStopInstance,
  getInstanceState,
  type InstanceWork,
  moveInstance,
} from "../../provider/lxd/instances/instances";
import { requireImage } from "../../provider/lxd/instances/preflight";
import { deleteProfile, findProfile, replaceProfile } from "../../provider/lxd/profiles";
import { changeOnMember, deleteObject, findObject } from "../../provider/lxd/storage-and-networks/member-objects";
import { network } from "../../provider/lxd/storage-and-networks/networks";
import { pool } from "../../provider/lxd/storage-and-networks/storage-pools";
import { deleteVolume, findVolume } from "../../provider/lxd/storage-and-networks/volumes";
import { guestOf } from "../../provider/machine/guest";
import { hostMachine } from "../../provider/machine/host";
import { hasDebPackage, installDebPackages } from "../../provider/machine/packages/apt";
import { Deadline } from "../../provider/support/deadline";
import { hasCode } from "../../provider/support/errors";
import { connectionSchema } from "../../provider/transport/connection";
import { connect, disconnectAll } from "../../provider/transport/pool";
import { figure } from "../support/figure";
import { ApiServer, done } from "../unit/lxd/api-server";
import { HOSTILE_TEXTS } from "./support/bad-values";
import { KINDS, validArgs } from "./support/valid-args";

const NAMES = HOSTILE_TEXTS.filter((text) => text.length < 200);

/** Names for which no request may be made: no path identifies exactly that object. */
const IMPOSSIBLE = /^\.{0,2}$|\p{Surrogate}/u;

/** A function that asks LXD for one object, and the path of the object: `*` stands for the name. */
interface Case {
  readonly what: string;
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  call(lxd: LxdClient, name: string): Promise<unknown>;
}

const PROJECT = "shop";
const inProject = { project: PROJECT };
const put = { description: "", config: {}, devices: {} };
const alias = (name: string) => ({ name, description: "", target: "f" });
const workOn = (lxd: LxdClient, name: string): InstanceWork => ({
  lxd,
  name,
  project: PROJECT,
  deadline: new Deadline(60, "the test"),
  progress: () => undefined,
  warn: () => undefined,
});
const inside = (lxd: LxdClient, instance: string) => guestOf({ lxd, project: PROJECT, name: instance });
const view = { config: {}, description: "" } as never;

const CASES: readonly Case[] = [
  { what: "findProfile", path: "/1.0/profiles/*", query: inProject, call: (lxd, name) => findProfile(lxd, PROJECT, name) },
  {
    what: "replaceProfile",
    path: "/1.0/profiles/*",
    query: inProject,
    call: (lxd, name) => replaceProfile(lxd, PROJECT, name, () => put, { value: { name, ...put, used_by: [] }, etag: "e" }),
  },
  { what: "deleteProfile", path: "/1.0/profiles/*", query: inProject, call: (lxd, name) => deleteProfile(lxd, PROJECT, name) },
  { what: "findObject, pool", path: "/1.0/storage-pools/*", call: (lxd, name) => findObject(lxd, pool(name)) },
  { what: "deleteObject, pool", path: "/1.0/storage-pools/*", call: (lxd, name) => deleteObject(lxd, pool(name)) },
  {
    what: "changeOnMember, pool",
    path: "/1.0/storage-pools/*",
    query: { target: "bcn1" },
    call: (lxd, name) => changeOnMember(lxd, pool(name), "bcn1", view, { source: "x" }),
  },
  {
    what: "findObject, network",
    path: "/1.0/networks/*",
    query: inProject,
    call: (lxd, name) => findObject(lxd, network(PROJECT, name)),
  },
  {
    what: "deleteObject, network",
    path: "/1.0/networks/*",
    query: inProject,
    call: (lxd, name) => deleteObject(lxd, network(PROJECT, name)),
  },
  {
    what: "findVolume",
    path: "/1.0/storage-pools/p/volumes/custom/*",
    query: { ...inProject, target: "bcn1" },
    call: (lxd, name) => findVolume(lxd, { project: PROJECT, pool: "p", name, location: "bcn1" }),
  },
  {
    what: "findVolume, pool",
    path: "/1.0/storage-pools/*/volumes/custom/data",
    query: { ...inProject, target: "bcn1" },
    call: (lxd, name) => findVolume(lxd, { project: PROJECT, pool: name, name: "data", location: "bcn1" }),
  },
  {
    what: "deleteVolume",
    path: "/1.0/storage-pools/p/volumes/custom/*",
    query: { ...inProject, target: "bcn1" },
    call: (lxd, name) => deleteVolume(lxd, { project: PROJECT, pool: "p", name, location: "bcn1" }),
  },
  { what: "findImage", path: "/1.0/images/*", query: inProject, call: (lxd, name) => findImage(lxd, PROJECT, name) },
  { what: "deleteImage", path: "/1.0/images/*", query: inProject, call: (lxd, name) => deleteImage(lxd, PROJECT, name) },
  { what: "findAlias", path: "/1.0/images/aliases/*", query: inProject, call: (lxd, name) => findAlias(lxd, PROJECT, name) },
  {
    what: "moveAlias",
    path: "/1.0/images/aliases/*",
    query: inProject,
    call: (lxd, name) => moveAlias(lxd, PROJECT, alias(name)),
  },
  { what: "deleteAlias", path: "/1.0/images/aliases/*", query: inProject, call: (lxd, name) => deleteAlias(lxd, PROJECT, name) },
  {
    what: "requireImage",
    path: "/1.0/images/aliases/*",
    query: inProject,
    call: (lxd, name) => requireImage(lxd, PROJECT, { alias: name }, "container"),
  },
  {
    what: "findInstance",
    path: "/1.0/instances/*",
    query: inProject,
    call: (lxd, name) => findInstance({ lxd, project: PROJECT, name }),
  },
  {
    what: "getInstanceState",
    path: "/1.0/instances/*/state",
    query: inProject,
    call: (lxd, name) => getInstanceState({ lxd, project: PROJECT, name }),
  },
  {
    what: "forceStopInstance",
    path: "/1.0/instances/*/state",
    query: inProject,
    call: (lxd, name) => forceStopInstance(workOn(lxd, name)),
  },
  {
    what: "moveInstance",
    path: "/1.0/instances/*",
    query: { ...inProject, target: "bcn1" },
    call: (lxd, name) => moveInstance({ lxd, project: PROJECT, name }, "bcn1"),
  },
  {
    what: "deleteInstance",
    path: "/1.0/instances/*",
    query: inProject,
    call: (lxd, name) => deleteInstance({ lxd, project: PROJECT, name }),
  },
  {
    what: "a command in a guest",
    path: "/1.0/instances/*/exec",
    query: inProject,
    call: (lxd, name) => inside(lxd, name).run(["true"]),
  },
  {
    what: "a file of a guest",
    path: "/1.0/instances/*/sftp",
    query: inProject,
    call: (lxd, name) => inside(lxd, name).readFile("/etc/passwd"),
  },
  { what: "getMember", path: "/1.0/cluster/members/*", call: (lxd, name) => getMember(lxd, name) },
  { what: "changeMember", path: "/1.0/cluster/members/*", call: (lxd, name) => changeMember(lxd, name, (live) => live) },
  { what: "removeMember", path: "/1.0/cluster/members/*", call: (lxd, name) => removeMember(lxd, name) },
  { what: "forgetMember", path: "/1.0/cluster/members/*", query: { force: "1" }, call: (lxd, name) => forgetMember(lxd, name) },
  { what: "an operation", path: "/1.0/operations/*", call: (lxd, name) => lxd.cancel({ id: name }) },
];

/** The same with the name in the query: a project, a member. */
const QUERIES: readonly Case[] = [
  {
    what: "project of a profile",
    path: "/1.0/profiles/web",
    query: { project: "*" },
    call: (lxd, name) => deleteProfile(lxd, name, "web"),
  },
  {
    what: "project of an image",
    path: "/1.0/images/f",
    query: { project: "*" },
    call: (lxd, name) => deleteImage(lxd, name, "f"),
  },
  {
    what: "project of a network",
    path: "/1.0/networks/br",
    query: { project: "*" },
    call: (lxd, name) => deleteObject(lxd, network(name, "br")),
  },
  {
    what: "project of a volume",
    path: "/1.0/storage-pools/p/volumes/custom/data",
    query: { project: "*", target: "bcn1" },
    call: (lxd, name) => deleteVolume(lxd, { project: name, pool: "p", name: "data", location: "bcn1" }),
  },
  {
    what: "project of an instance",
    path: "/1.0/instances/web1",
    query: { project: "*" },
    call: (lxd, name) => deleteInstance({ lxd, project: name, name: "web1" }),
  },
  {
    what: "project of a new alias",
    path: "/1.0/images/aliases",
    query: { project: "*" },
    call: (lxd, name) => createAlias(lxd, name, { name: "a", description: "", target: "f" }),
  },
  {
    what: "member of a pool",
    path: "/1.0/storage-pools/p",
    query: { target: "*" },
    call: (lxd, name) => findObject(lxd, pool("p"), name),
  },
  {
    what: "target member of a move",
    path: "/1.0/instances/web1",
    query: { ...inProject, target: "*" },
    call: (lxd, name) => moveInstance({ lxd, project: PROJECT, name: "web1" }, name),
  },
];

describe("names with characters that have a meaning in a URL", () => {
  let server: ApiServer;
  let tried = 0;

  before(async () => {
    server = await ApiServer.start();
  });
  after(async () => {
    figure("names tried in requests", tried);
    await server.stop();
  });

  const requestsOf = async (call: Case["call"], name: string): Promise<{ paths: string[]; error: unknown }> => {
    server.received.length = 0;
    server.next(...Array.from({ length: 3 }, () => done({})));
    const error = await (async () => call(server.client(), name))().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    server.forget();
    tried += 1;
    return { paths: server.received.map(({ path }) => path), error };
  };

  const addresses = (line: string, { path, query = {} }: Case, name: string): void => {
    const [sentPath = "", sentQuery = "", ...more] = line.split("?");
    assert.deepEqual(more, []);
    const segments = sentPath.split("/").map(decodeURIComponent);
    assert.deepEqual(
      segments,
      path.split("/").map((segment) => (segment === "*" ? name : segment)),
    );
    const expected = Object.entries(query).map(([key, value]) => [key, value === "*" ? name : value]);
    assert.deepEqual([...new URLSearchParams(sentQuery)].sort(), expected.sort());
  };

  for (const each of CASES) {
    it(`${each.what} requests exactly that object, or nothing`, async () => {
      for (const name of NAMES) {
        const { paths, error } = await requestsOf(each.call, name);
        if (IMPOSSIBLE.test(name)) {
          assert.deepEqual(paths, [], JSON.stringify(name));
          assert.ok(hasCode(error, "refused"), String(error));
        } else {
          assert.notDeepEqual(paths, [], JSON.stringify(name));
          for (const line of paths) {
            addresses(line, each, name);
          }
        }
      }
    });
  }

  for (const each of QUERIES) {
    it(`the ${each.what} stays one value of the query`, async () => {
      for (const name of NAMES.filter((text) => !/\p{Surrogate}/u.test(text))) {
        const { paths } = await requestsOf(each.call, name);
        assert.notDeepEqual(paths, [], JSON.stringify(name));
        for (const line of paths) {
          addresses(line, each, name);
        }
      }
    });
  }

  it("names that LXD accepts nowhere, and those that would change a path, are refused without a request", async () => {
    const lab = { host: "192.0.2.1" };
    const refused = NAMES.filter((name) => /^\.{0,2}$|\/|[\p{Control}\p{Surrogate}]/u.test(name) && !/^0?4da6b54/.test(name));
    for (const kind of KINDS) {
      const [args = {}] = validArgs(lab)[kind] ?? [];
      // The name of a trusted certificate is in no path.
      const own = kind === "LxdTrustCertificate" ? [] : ["name"];
      for (const property of [...own, "instance", "project"].filter((key) => key in args)) {
        for (const name of refused) {
          const { failures } = await provider(kind).check(args, { ...args, [property]: name });
          const isNamed = failures.some(({ reason }) => reason.startsWith(`${property} `));
          assert.ok(isNamed, `${kind}.${property} takes ${JSON.stringify(name)}`);
        }
      }
    }
  });
});

/** Messages of the library to these programs. */
const FIXED =
  /^(--(show|showformat=\$\{Package\} \$\{db:Status-Status\} \$\{Version\}\\n|quiet|yes|option|no-remove|no-auto-remove|simulate|allow-change-held-packages)|DPkg::Lock::Timeout=\d+|APT::Update::Error-Mode=any|Debug::NoLocking=true|DPkg::Options::=--force-conf(def|old)|\/var\/lib\/dpkg\/updates|-(min|max)depth|1|--|install|update|madison)$/;

describe("arguments with characters that have a meaning in a shell", () => {
  let lab: SimulatedLab;
  let deadline: Deadline;
  beforeEach(() => {
    deadline = new Deadline(60, "the test");
  });

  before(async () => {
    lab = await SimulatedLab.start({ hosts: [{ name: "bcn2", snapd: true }] });
  });
  after(async () => {
    await disconnectAll();
    await lab.stop();
  });

  it("reach a program on a host unchanged, and no other program runs", async () => {
    const host = lab.host("bcn2");
    const ssh = await connect(connectionSchema.parse(host.connection), { deadline });
    let arguments_ = 0;
    for (const text of NAMES.filter((name) => !/\p{Surrogate}/u.test(name))) {
      const machine = hostMachine(ssh, deadline);
      const install = () => installDebPackages(machine, [{ name: text }], { deadline, terms: NODE_TERMS });
      for (const call of [() => hasDebPackage(machine, text), install]) {
        host.commands.length = 0;
        const error = await call().then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        if (text.includes("\0")) {
          assert.ok(hasCode(error, "refused"), String(error));
        }
        for (const [program, ...args] of host.commands) {
          assert.ok(["dpkg-query", "apt-get", "apt-cache", "find"].includes(program ?? ""), `it ran ${program}`);
          arguments_ += args.filter((argument) => argument === text).length;
          const others = args.filter((argument) => argument !== text);
          assert.deepEqual(
            others.filter((argument) => !FIXED.test(argument)),
            [],
          );
        }
      }
    }
    assert.ok(arguments_ > NAMES.length);
    figure("hostile arguments of commands", arguments_);
  });

  it("reach snapd unchanged, and no program runs", async () => {
    const host = lab.host("bcn2");
    const ssh = await connect(connectionSchema.parse(host.connection), { deadline });
    for (const text of NAMES.filter((name) => name !== "" && !/\p{Surrogate}/u.test(name))) {
      host.removeSnap("lxd");
      host.commands.length = 0;
      host.store.release(text, { revision: 1, version: "5.21.4", lxd: "lxd-5.21" });
      const choice = { channel: text, cohort: true, hold: false };
      await bringSnap(ssh, choice, { deadline, progress: () => undefined });
      assert.equal(host.snaps.get("lxd")?.channel, text);
      assert.deepEqual(host.commands, []);
    }
  });
});
