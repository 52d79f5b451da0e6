/** Changes that users and other programs make on the hosts outside the library. A refusal of LXD is ignored. */

import * as z from "zod";
import type { SimulatedLab } from "../../../lab/simulated";
import type { FileNode, MemoryFiles } from "../../../lab/simulated/memory-files";
import { api, type LxdClient } from "../../../provider/lxd/client/client";
import { HOSTS } from "./program";

/** The context of a manual change. */
export interface ChangeContext {
  readonly lab: SimulatedLab;
  readonly lxd: LxdClient;
  /** The host of a name. */
  readonly through: string;
  /** A client of one host. */
  readonly on: (host: string) => LxdClient;
  /** Records an object that does not belong to the program, by its path. */
  readonly foreign: (path: string) => void;
}

/** One manual change. */
export type ManualChange = (desk: ChangeContext) => Promise<void>;

const contents = z.looseObject({
  description: z.string().default(""),
  config: z.record(z.string(), z.string()).nullish(),
  devices: z.record(z.string(), z.record(z.string(), z.string())).nullish(),
});
type Contents = z.output<typeof contents>;

const imageSchema = z.looseObject({ fingerprint: z.string(), properties: z.record(z.string(), z.string()), public: z.boolean() });

/** Reads an object, changes it, and writes it back, as `lxc ... edit` does. */
function edited(path: string, change: (found: Contents) => Partial<Contents>): ManualChange {
  return async ({ lxd }) => {
    const found = await lxd.get(path, contents);
    await lxd.change("PUT", path, { body: { ...found, ...change(found) } });
  };
}

const withKey = (path: string, key: string, value: string): ManualChange =>
  edited(path, ({ config }) => ({ config: { ...config, [key]: value } }));
const described = (path: string): ManualChange => edited(path, () => ({ description: "by hand" }));
const removed =
  (path: string): ManualChange =>
  async ({ lxd }) => {
    await lxd.change("DELETE", path);
  };
const state =
  (name: string, action: string): ManualChange =>
  async ({ lxd }) => {
    await lxd.change("PUT", api`/1.0/instances/${name}/state`, { body: { action, timeout: 0, force: action !== "start" } });
  };
/** Deletes an instance, running or not. */
export const destroyed =
  (name: string): ManualChange =>
  async (desk) => {
    await state(name, "stop")(desk).catch(() => undefined);
    await removed(api`/1.0/instances/${name}`)(desk);
  };

/** Sets whether LXD deletes an instance as soon as it stops. */
export const ephemeral =
  (name: string, value: boolean): ManualChange =>
  async ({ lxd }) => {
    const path = api`/1.0/instances/${name}`;
    await lxd.change("PUT", path, { body: { ...(await lxd.get(path, contents)), ephemeral: value } });
  };

const ofInstance = (name: string): Readonly<Record<string, ManualChange>> => {
  const path = api`/1.0/instances/${name}`;
  return {
    [`${name}: set a key`]: withKey(path, "user.hand", "1"),
    [`${name}: autostart`]: withKey(path, "boot.autostart", "yes"),
    [`${name}: less memory`]: withKey(path, "limits.memory", "256MiB"),
    [`${name}: cpus`]: withKey(path, "limits.cpu", "3"),
    [`${name}: pinned`]: withKey(path, "limits.cpu", "0-2"),
    [`${name}: description`]: described(path),
    [`${name}: cloud-init`]: withKey(path, "cloud-init.user-data", "#cloud-config\nhand: 1\n"),
    [`${name}: device`]: edited(path, ({ devices }) => ({ devices: { ...devices, hand0: { type: "none" } } })),
    [`${name}: nic off`]: edited(path, ({ devices }) => ({ devices: { ...devices, eth0: { type: "none" } } })),
    [`${name}: profiles`]: async ({ lxd }) => {
      const found = await lxd.get(path, contents);
      await lxd.change("PUT", path, { body: { ...found, profiles: ["web", "default"] } });
    },
    [`${name}: stop`]: state(name, "stop"),
    [`${name}: start`]: state(name, "start"),
    [`${name}: restart`]: state(name, "restart"),
    [`${name}: freeze`]: state(name, "freeze"),
    [`${name}: delete`]: destroyed(name),
    [`${name}: move`]: async (desk) => {
      const { location } = await desk.lxd.get(path, z.looseObject({ location: z.string() }));
      await state(name, "stop")(desk).catch(() => undefined);
      const target = HOSTS.find((host) => host !== location);
      await desk.lxd.change("POST", path, { query: { target }, body: { name, migration: true, live: false } });
      await state(name, "start")(desk);
    },
  };
};

const ofFile = (name: string, filesOf: (desk: ChangeContext) => MemoryFiles): Readonly<Record<string, ManualChange>> => {
  const path = "/srv/app/app.conf";
  const change =
    (act: (files: MemoryFiles, node: FileNode) => void): ManualChange =>
    async (desk) => {
      const files = filesOf(desk);
      const node = files.get(path, false);
      if (node !== undefined) {
        act(files, node);
      }
    };
  return {
    [`${name}: other content`]: change((files) => void files.writeFile(path, "by hand\n")),
    [`${name}: other mode`]: change((_files, node) => void Object.assign(node, { mode: 0o666 })),
    [`${name}: other owner`]: change((_files, node) => void Object.assign(node, { uid: 65534 })),
    [`${name}: removed`]: change((files) => files.remove(path)),
  };
};

const inGuest = (name: string, user: string): Readonly<Record<string, ManualChange>> => {
  const edit =
    (path: string, change: (text: string) => string): ManualChange =>
    async ({ lab, through }) => {
      const files = lab.guestFiles(through, name);
      if (files.exists(path)) {
        files.writeFile(path, change(files.readText(path)), { mode: files.get(path)?.mode ?? 0o644 });
      }
    };
  const dropLine = (text: string): string =>
    text
      .split("\n")
      .filter((line) => !line.startsWith(`${user}:`))
      .join("\n");
  return {
    [`${name}: ${user} gets another shell`]: edit("/etc/passwd", (text) =>
      text.replace(new RegExp(`^(${user}:.*):[^:]*$`, "m"), "$1:/usr/bin/bash"),
    ),
    [`${name}: ${user} joins staff`]: edit("/etc/group", (text) => text.replace(/^staff:x:50:.*$/m, `staff:x:50:${user}`)),
    [`${name}: ${user} leaves adm`]: edit("/etc/group", (text) => text.replace(/^adm:x:4:.*$/m, "adm:x:4:")),
    [`${name}: ${user} gets other sudo`]: edit(`/etc/sudoers.d/${user}`, () => `${user} ALL=(ALL) NOPASSWD: /bin/ls\n`),
    [`${name}: ${user} gets a key`]: edit(
      `/home/${user}/.ssh/authorized_keys`,
      (text) => `${text}ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGho hand\n`,
    ),
    [`${name}: ${user} gets another password`]: edit("/etc/shadow", (text) =>
      text.replace(new RegExp(`^${user}:[^:]*:`, "m"), `${user}:$6$hand$hand:`),
    ),
    [`${name}: ${user} is removed`]: async (desk) => {
      for (const path of ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"]) {
        await edit(path, dropLine)(desk);
      }
    },
    [`${name}: a user of someone else`]: async ({ lab, through, foreign }) => {
      const files = lab.guestFiles(through, name);
      files.writeFile("/etc/passwd", `${files.readText("/etc/passwd")}guest:x:4242:100::/home/guest:/bin/sh\n`);
      foreign(`user ${name}/guest`);
    },
  };
};

const ofAlias = (alias: string, other: string): Readonly<Record<string, ManualChange>> => ({
  [`alias ${alias}: removed`]: removed(`/1.0/images/aliases/${alias}`),
  [`alias ${alias}: points elsewhere`]: async ({ lxd }) => {
    const found = z.looseObject({ target: z.string() });
    const { target } = await lxd.get(`/1.0/images/aliases/${other}`, found);
    await lxd.change("PUT", `/1.0/images/aliases/${alias}`, { body: { target, description: "" } });
  },
  [`image ${alias}: properties`]: changedImage(alias, (found) => ({ ...found, properties: { ...found.properties, os: "hand" } })),
  [`image ${alias}: public`]: changedImage(alias, (found) => ({ ...found, public: !found.public })),
  [`image ${alias}: removed`]: async (desk) => {
    const { target } = await desk.lxd.get(`/1.0/images/aliases/${alias}`, z.looseObject({ target: z.string() }));
    await removed(`/1.0/images/${target}`)(desk);
  },
});

function changedImage(alias: string, change: (found: z.output<typeof imageSchema>) => object): ManualChange {
  return async ({ lxd }) => {
    const { target } = await lxd.get(`/1.0/images/aliases/${alias}`, z.looseObject({ target: z.string() }));
    const found = await lxd.get(`/1.0/images/${target}`, imageSchema);
    await lxd.change("PUT", `/1.0/images/${target}`, { body: change(found) });
  };
}

/** Creates an object that does not belong to the program, and records it. */
const made =
  (collection: string, body: { name: string } & Record<string, unknown>, onEach = false): ManualChange =>
  async ({ lxd, foreign }) => {
    const members = onEach
      ? await lxd.get("/1.0/cluster/members", z.array(z.looseObject({ server_name: z.string() })), { recursion: 1 })
      : [];
    for (const target of [...members.map(({ server_name }) => server_name), undefined]) {
      const { description, config, ...identity } = body;
      await lxd.change("POST", collection, {
        query: { target },
        body: target === undefined ? { ...identity, description, config } : identity,
      });
      foreign(`${collection}/${body.name}`); // also if another member refuses it
    }
  };

const certificateSchema = z.looseObject({ fingerprint: z.string(), type: z.string() });

/** The certificates of clients. */
async function clients({ lxd }: ChangeContext): Promise<z.output<typeof certificateSchema>[]> {
  const all = await lxd.get("/1.0/certificates", z.array(certificateSchema), { recursion: 1 });
  return all.filter(({ type }) => type === "client");
}

/** All manual changes, by description. */
export const MANUAL_CHANGES: Readonly<Record<string, ManualChange>> = {
  ...ofInstance("web1"),
  ...ofInstance("web2"),
  ...ofInstance("box1"),
  ...inGuest("web1", "ops"),
  ...inGuest("box1", "dev"),
  ...ofFile("box1-conf", ({ lab, through }) => lab.guestFiles(through, "box1")),
  ...ofFile("bcn2-conf", ({ lab }) => lab.host("bcn2").files),
  ...ofAlias("vm", "box"),
  ...ofAlias("box", "debian"),
  "web: key": withKey("/1.0/profiles/web", "user.hand", "1"),
  "web: memory": withKey("/1.0/profiles/web", "limits.memory", "512MiB"),
  "web: description": described("/1.0/profiles/web"),
  "web: device": edited("/1.0/profiles/web", ({ devices }) => ({ devices: { ...devices, hand0: { type: "none" } } })),
  "web: removed": removed("/1.0/profiles/web"),
  "spare: key": withKey("/1.0/profiles/spare", "user.hand", "1"),
  "spare: removed": removed("/1.0/profiles/spare"),
  "spare: made again by someone else": made("/1.0/profiles", { name: "spare", description: "mine" }),
  "pool: description": described("/1.0/storage-pools/local"),
  "pool: key": withKey("/1.0/storage-pools/local", "rsync.bwlimit", "7MB"),
  "pool: removed": removed("/1.0/storage-pools/local"),
  "bridge: description": described("/1.0/networks/lxdbr0"),
  "bridge: nat": withKey("/1.0/networks/lxdbr0", "ipv4.nat", "false"),
  "bridge: key of LXD": withKey("/1.0/networks/lxdbr0", "ipv4.dhcp.expiry", "2h"),
  "spare-bridge: removed": removed("/1.0/networks/spare0"),
  "spare-bridge: nat": withKey("/1.0/networks/spare0", "ipv4.nat", "false"),
  "acl: key": withKey("/1.0/network-acls/acl", "user.hand", "1"),
  "acl: description": described("/1.0/network-acls/acl"),
  "acl: removed": removed("/1.0/network-acls/acl"),
  "forward: description": edited("/1.0/networks/shop0/forwards/192.0.2.1?target=bcn2", () => ({ description: "by hand" })),
  "forward: removed": removed("/1.0/networks/shop0/forwards/192.0.2.1?target=bcn2"),
  "foreign: acl": made("/1.0/network-acls", { name: "theirs", description: "theirs", config: { "user.theirs": "1" } }),
  "group: description": described("/1.0/cluster/groups/front"),
  "group: members": async ({ lxd }) => {
    const found = await lxd.get("/1.0/cluster/groups/front", contents);
    await lxd.change("PUT", "/1.0/cluster/groups/front", { body: { ...found, members: ["bcn1"] } });
  },
  "group: removed": removed("/1.0/cluster/groups/front"),
  "settings: interval": async ({ lxd }) => {
    await lxd.change("PATCH", "/1.0", { body: { config: { "images.auto_update_interval": "3" } } });
  },
  "settings: router": async ({ on }) => {
    await on("bcn2").change("PATCH", "/1.0", { body: { config: { "core.bgp_routerid": "192.0.2.99" } } });
  },
  "shop: key": withKey("/1.0/projects/shop", "user.hand", "1"),
  "shop: description": described("/1.0/projects/shop"),
  "shop: removed": removed("/1.0/projects/shop"),
  "data: key": withKey("/1.0/storage-pools/local/volumes/custom/data?target=bcn2", "user.hand", "1"),
  "data: larger": withKey("/1.0/storage-pools/local/volumes/custom/data?target=bcn2", "size", "3GiB"),
  "data: description": described("/1.0/storage-pools/local/volumes/custom/data?target=bcn2"),
  "data: removed": removed("/1.0/storage-pools/local/volumes/custom/data?target=bcn2"),
  "laptop: renamed": async (desk) => {
    for (const { fingerprint, ...found } of await clients(desk)) {
      await desk.lxd.change("PUT", `/1.0/certificates/${fingerprint}`, { body: { ...found, name: "hand" } });
    }
  },
  "laptop: removed": async (desk) => {
    for (const { fingerprint } of await clients(desk)) {
      await removed(`/1.0/certificates/${fingerprint}`)(desk);
    }
  },
  "foreign: project": made("/1.0/projects", { name: "theirs", description: "theirs", config: { "user.theirs": "1" } }),
  "member: description": described("/1.0/cluster/members/bcn1"),
  "member: failure domain": async ({ lxd }) => {
    const found = await lxd.get("/1.0/cluster/members/bcn1", contents);
    await lxd.change("PUT", "/1.0/cluster/members/bcn1", { body: { ...found, failure_domain: "by-hand" } });
  },
  "member: key": withKey("/1.0/cluster/members/bcn2", "user.hand", "1"),
  "member: evacuated": async ({ lxd }) => {
    await lxd.change("POST", "/1.0/cluster/members/bcn1/state", { body: { action: "evacuate" } });
  },
  "member: restored": async ({ lxd }) => {
    await lxd.change("POST", "/1.0/cluster/members/bcn1/state", { body: { action: "restore" } });
  },
  "node: debug address": async ({ on }) => {
    await on("bcn1").change("PATCH", "/1.0", { body: { config: { "core.debug_address": "127.0.0.1:9999" } } });
  },
  "server: key of the cluster": async ({ lxd }) => {
    await lxd.change("PATCH", "/1.0", { body: { config: { "user.hand": "1" } } });
  },
  "foreign: profile": made("/1.0/profiles", { name: "theirs", description: "theirs", config: { "user.theirs": "1" } }),
  "foreign: network": made("/1.0/networks", { name: "theirbr0", type: "bridge", description: "theirs" }, true),
  "foreign: pool": made("/1.0/storage-pools", { name: "theirs", driver: "dir", description: "theirs" }, true),
  "foreign: instance": async ({ lxd, foreign }) => {
    await lxd.change("POST", "/1.0/instances", {
      body: { name: "theirs", type: "container", source: { type: "image", alias: "box" }, profiles: ["web"] },
    });
    foreign("/1.0/instances/theirs");
  },
};
