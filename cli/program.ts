import type { HostArgs } from "./arguments";
import { Code, isMap, literal } from "./code";
import { type ClusterContents, KINDS, type Taken } from "./inventory";
import { type Secret, Secrets } from "./secrets";

/** A program that adopts a cluster. */
export interface Program {
  readonly text: string;
  /** Values that the stack's config needs before the program runs. */
  readonly secrets: readonly Secret[];
}

type Args = Readonly<Record<string, unknown>>;

/** One resource of a program. */
interface Statement {
  readonly taken: Taken;
  /** Name of the resource. */
  readonly name: string;
  readonly variable: string;
  /** Whether another statement refers to it. */
  isUsed: boolean;
}

const HEADINGS: Readonly<Record<Exclude<Taken["kind"], "LxdNode">, string>> = {
  LxdClusterMember: "Cluster members",
  LxdClusterGroup: "Cluster groups",
  LxdServerConfig: "Server config",
  LxdStoragePool: "Storage pools",
  LxdProject: "Projects",
  LxdTrustCertificate: "Trusted certificates of clients",
  LxdStorageVolume: "Storage volumes",
  LxdNetworkAcl: "Network ACLs",
  LxdNetwork: "Networks",
  LxdNetworkForward: "Network forwards",
  LxdImage: "Images",
  LxdProfile: "Profiles",
  LxdVm: "Instances",
};

const SUFFIXES: Readonly<Record<Taken["kind"], string>> = {
  LxdNode: "Node",
  LxdClusterMember: "Member",
  LxdClusterGroup: "Group",
  LxdServerConfig: "",
  LxdStoragePool: "Pool",
  LxdProject: "Project",
  LxdTrustCertificate: "Certificate",
  LxdStorageVolume: "Volume",
  LxdNetworkAcl: "Acl",
  LxdNetwork: "Network",
  LxdNetworkForward: "Forward",
  LxdImage: "Image",
  LxdProfile: "Profile",
  LxdVm: "",
};

/** Writes a program with one resource per object, in the order of their dependencies. */
export function programOf(contents: ClusterContents): Program {
  return new Writing(contents).program();
}

class Writing {
  private readonly statements: Statement[];
  private readonly secrets: Secrets;

  constructor(private readonly contents: ClusterContents) {
    this.statements = statementsOf(contents.taken);
    const [first] = contents.hosts;
    this.secrets = new Secrets(first?.args ?? { host: "" }, contents.names.client);
  }

  program(): Program {
    // All statements must be written before it is known which ones need a variable.
    const endpoints = this.contents.hosts.map(({ name, args }) => this.connectionTo(name, args));
    const arguments_ = new Map(this.statements.map((statement) => [statement, this.argsOf(statement.taken)]));
    const sections = KINDS.flatMap((kind) => {
      const ofKind = this.statements.filter(({ taken }) => taken.kind === kind);
      const texts = ofKind.map((statement) => textOf(statement, arguments_.get(statement) ?? {}));
      const heading = kind === "LxdNode" ? `${this.contents.names.name} on the hosts` : HEADINGS[kind];
      return texts.length === 0 ? [] : [{ kind, text: `// ${heading}\n${texts.join("\n")}` }];
    });
    const isOfHosts = ({ kind }: { kind: string }): boolean => kind === "LxdNode" || kind === "LxdClusterMember";
    const parts = [
      ...sections.filter(isOfHosts).map(({ text }) => text),
      `// The connection of all objects of the cluster\nconst cluster = ${literal({ endpoints })};`,
      ...sections.filter((section) => !isOfHosts(section)).map(({ text }) => text),
    ];
    const body = parts.join("\n\n");
    const head = this.head(
      sections.map(({ kind }) => kind),
      body.includes("pulumi.interpolate`"),
    );
    return { text: `${head}\n${body}\n`, secrets: this.secrets.all };
  }

  private head(kinds: readonly string[], interpolates: boolean): string {
    const names = `import { ${[...kinds].sort().join(", ")} } from "pulumi-lxd-cluster";`;
    const remarks = [
      `Adopts the ${this.contents.names.name} of ${this.contents.hosts.map(({ name }) => name).join(", ")} as it was found.`,
      "`adopt: true` makes pulumi up manage existing objects; it creates none.",
      ...(this.contents.leftOut.length === 0
        ? []
        : ["", "Left out:", ...this.contents.leftOut.map((sentence) => `- ${sentence}`)]),
      ...(this.secrets.all.length === 0
        ? []
        : [
            "",
            "These values may be secret. Write them to the stack's config:",
            ...this.secrets.all.map(({ command }) => command),
          ]),
    ];
    const comment = `/*\n${remarks.map((line) => ` *${line === "" ? "" : ` ${line.replaceAll("*/", "* /")}`}\n`).join("")} */\n`;
    const settings = this.secrets.all.length === 0 ? "" : "\nconst settings = new pulumi.Config();\n";
    return `${comment}${settings === "" && !interpolates ? "" : 'import * as pulumi from "@pulumi/pulumi";\n'}${names}\n${settings}`;
  }

  /** Returns the connection to a host as an output of its resource, so that its users wait for the resource. */
  private connectionTo(name: string, args: HostArgs, kinds: readonly Taken["kind"][] = ["LxdClusterMember", "LxdNode"]): unknown {
    for (const kind of kinds) {
      const statement = this.find(kind, name);
      if (statement !== undefined) {
        return refer(statement, "connection");
      }
    }
    return args;
  }

  private argsOf(taken: Taken): Args {
    const { kind, name } = taken;
    const args = this.withoutSecrets(taken);
    const [first] = this.contents.hosts;
    const host = this.contents.hosts.find((each) => each.name === name);
    if (kind === "LxdNode") {
      return { connection: host?.args, ...args };
    }
    if (kind === "LxdClusterMember") {
      const through =
        first === undefined || first.name === name ? {} : { cluster: { endpoints: [this.connectionTo(first.name, first.args)] } };
      return { connection: this.connectionTo(name, host?.args ?? { host: "" }, ["LxdNode"]), ...through, ...args };
    }
    const { name: own, adopt, cluster: _, ...rest } = this.withReferences(taken, args);
    return { cluster: new Code("cluster"), ...(own === undefined ? {} : { name: own }), ...rest, adopt };
  }

  /** Replaces names of the program's other objects by references, which give pulumi destroy the right order. */
  private withReferences({ kind, project, name }: Taken, args: Args): Args {
    const inProject = {
      ...args,
      ...(project !== "default" && { project: this.reference("LxdProject", "default", project) ?? project }),
    };
    if (kind === "LxdStorageVolume") {
      const pool = String(args["pool"]);
      return { ...inProject, pool: this.reference("LxdStoragePool", "default", pool) ?? pool };
    }
    if (kind === "LxdClusterGroup") {
      const { members = [] } = args as { members?: string[] };
      return { ...inProject, members: members.map((member) => this.reference("LxdClusterMember", "default", member) ?? member) };
    }
    if (kind === "LxdTrustCertificate") {
      const { projects } = args as { projects?: string[] };
      return projects === undefined
        ? args
        : { ...args, projects: projects.map((each) => this.reference("LxdProject", "default", each) ?? each) };
    }
    if (kind !== "LxdProfile" && kind !== "LxdVm") {
      const { config, ingress, egress } = args;
      if (kind === "LxdNetworkForward") {
        return { ...inProject, network: this.reference("LxdNetwork", project, String(args["network"])) ?? args["network"] };
      }
      if (kind === "LxdNetworkAcl") {
        return { ...inProject, ...this.rulesOf(project, name, { ingress, egress }) };
      }
      const acls = isMap(config) ? config["security.acls"] : undefined;
      return typeof acls === "string"
        ? { ...inProject, config: { ...(config as Args), "security.acls": this.aclsOf(project, acls) } }
        : inProject;
    }
    const { devices, profiles = kind === "LxdVm" ? ["default"] : undefined } = args;
    const names = (profiles as string[] | undefined)?.map((profile) => this.reference("LxdProfile", project, profile) ?? profile);
    return {
      ...inProject,
      ...(names?.some((each) => each instanceof Code) === true && { profiles: names }),
      ...(isMap(devices) && { devices: mapEntries(devices, (_, device) => this.deviceOf(project, device)) }),
    };
  }

  /** Replaces possible secrets by references to the stack's config. */
  private withoutSecrets({ kind, name, project, args }: Taken): Args {
    const words = WORDS[kind];
    if (words === undefined) {
      return args;
    }
    const shown = [...words, "get", ...placeOf({ kind, name, args })];
    const own = kind === "LxdStorageVolume" ? [args["target"], args["pool"], name].filter(isText).join("-") : name;
    const scope = `${words === INSTANCE ? "" : `${words.join("-")}-`}${project === "default" ? "" : `${project}-`}${own}`;
    const hide = (key: string, value: unknown, of: readonly string[] = shown, within = scope): unknown =>
      this.secrets.hide({ project, words: of, name: within }, key, value);
    const { config, cloudInit, devices, memberConfig } = args;
    return {
      ...args,
      ...(isMap(config) && { config: mapEntries(config, (key, value) => hide(key, value)) }),
      ...(isMap(cloudInit) && {
        cloudInit: mapEntries(cloudInit, (key, value) => hide(CLOUD_INIT_KEYS[key] ?? key, value)),
      }),
      ...(isMap(devices) && {
        devices: mapMaps(devices, (device, key, value) =>
          hide(key, value, [...words, "device", "get", name, device], `${scope}-${device}`),
        ),
      }),
      ...(isMap(memberConfig) && {
        memberConfig: mapMaps(memberConfig, (member, key, value) =>
          hide(key, value, [...words, "get", `--target=${member}`, name], `${scope}-${member}`),
        ),
      }),
    };
  }

  private deviceOf(project: string, device: unknown): unknown {
    if (!isMap(device)) {
      return device;
    }
    const refersTo = (key: string): Taken["kind"] | undefined => {
      if (device["type"] === "disk") {
        return key === "pool" ? "LxdStoragePool" : undefined;
      }
      return device["type"] === "nic" && (key === "network" || key === "parent") ? "LxdNetwork" : undefined;
    };
    return mapEntries(device, (key, value) => {
      if (key === "security.acls") {
        return this.aclsOf(project, String(value));
      }
      const kind = refersTo(key);
      if (device["type"] === "disk" && key === "source") {
        return this.volumeOf(project, device["pool"], value) ?? value;
      }
      return (kind && this.reference(kind, project, String(value))) ?? value;
    });
  }

  /** The name of the volume that a device attaches, if only one of the pool has it. */
  private volumeOf(project: string, pool: unknown, name: unknown): Code | undefined {
    const holder = this.contents.holderOf(project, "storage.volumes");
    const [only, ...others] = this.statements.filter(
      ({ taken }) =>
        taken.kind === "LxdStorageVolume" && taken.name === name && taken.project === holder && taken.args["pool"] === pool,
    );
    return only === undefined || others.length > 0 ? undefined : refer(only, "name");
  }

  /** Replaces the names of ACLs in a list of names, or of names and addresses. */
  private aclsOf(project: string, list: string, mayRefer: (name: string) => boolean = () => true): unknown {
    const items = list.split(",").map((item) => item.trim());
    const found = items.map((item) => (mayRefer(item) ? this.reference("LxdNetworkAcl", project, item) : undefined));
    const [first] = found;
    if (found.every((each) => each === undefined)) {
      return list;
    }
    if (found.length === 1) {
      return first;
    }
    const parts = items.map((item, index) => {
      const { text } = found[index] ?? {};
      return text === undefined ? item.replace(/[\\`$]/g, "\\$&") : `\${${text}}`;
    });
    return new Code(`pulumi.interpolate\`${parts.join()}\``);
  }

  /** Returns the rules of an ACL, in which LXD finds the names of other ACLs. They refer only to ACLs before it in the program. */
  private rulesOf(project: string, name: string, rules: Args): Args {
    const acls = this.statements.filter(({ taken }) => taken.kind === "LxdNetworkAcl" && taken.project === project);
    const before = acls
      .map(({ taken }) => taken.name)
      .slice(
        0,
        acls.findIndex(({ taken }) => taken.name === name),
      );
    const referring = (rule: unknown): unknown =>
      isMap(rule)
        ? mapEntries(rule, (field, value) =>
            field === "source" || field === "destination"
              ? this.aclsOf(project, String(value), (item) => before.includes(item))
              : value,
          )
        : rule;
    const given = Object.entries(rules).filter((entry): entry is [string, unknown[]] => Array.isArray(entry[1]));
    return Object.fromEntries(given.map(([direction, all]) => [direction, all.map(referring)]));
  }

  private reference(kind: Taken["kind"], project: string, name: string): Code | undefined {
    const holder =
      kind === "LxdProfile"
        ? this.contents.holderOf(project, "profiles")
        : kind === "LxdNetwork" || kind === "LxdNetworkAcl"
          ? this.contents.holderOf(project, "networks")
          : "default";
    const statement = this.find(kind, name, holder);
    return statement && refer(statement, "name");
  }

  private find(kind: Taken["kind"], name: string, project = "default"): Statement | undefined {
    return this.statements.find(({ taken }) => taken.kind === kind && taken.name === name && taken.project === project);
  }
}

const INSTANCE = ["config"];

/** Subcommands of the client that print an object's values. */
const WORDS: Readonly<Partial<Record<Taken["kind"], readonly string[]>>> = {
  LxdClusterMember: ["cluster"],
  LxdServerConfig: INSTANCE,
  LxdStoragePool: ["storage"],
  LxdProject: ["project"],
  LxdStorageVolume: ["storage", "volume"],
  LxdNetworkAcl: ["network", "acl"],
  LxdNetwork: ["network"],
  LxdNetworkForward: ["network", "forward"],
  LxdProfile: ["profile"],
  LxdVm: INSTANCE,
};

/** What follows the subcommand: the object that is meant, and its member. */
function placeOf({ kind, name, args }: Pick<Taken, "kind" | "name" | "args">): string[] {
  const at = isText(args["target"]) ? [`--target=${args["target"]}`] : [];
  switch (kind) {
    case "LxdNetworkForward":
      return [...at, args["network"], args["listenAddress"]].filter(isText);
    case "LxdStorageVolume":
      return [...at, args["pool"], name].filter(isText);
    case "LxdServerConfig":
      return [];
    default:
      return [name];
  }
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

const CLOUD_INIT_KEYS: Readonly<Record<string, string>> = {
  userData: "cloud-init.user-data",
  vendorData: "cloud-init.vendor-data",
  networkConfig: "cloud-init.network-config",
};

function refer(statement: Statement, property: string): Code {
  statement.isUsed = true;
  return new Code(`${statement.variable}.${property}`);
}

function textOf({ taken, name, variable, isUsed }: Statement, args: Args): string {
  return `${isUsed ? `const ${variable} = ` : ""}new ${taken.kind}(${JSON.stringify(name)}, ${literal(args)});`;
}

/** Gives each resource a unique name and a unique variable. */
function statementsOf(all: readonly Taken[]): Statement[] {
  const variables = new Set(["cluster", "settings", "pulumi"]);
  const names = new Set<string>();
  return all.map((taken) => {
    const own = taken.project === "default" ? taken.name : `${taken.project}-${taken.name}`;
    const name = unique(own, (text) => names.has(`${taken.kind} ${text}`));
    names.add(`${taken.kind} ${name}`);
    const variable = unique(identifier(own, SUFFIXES[taken.kind]), (text) => variables.has(text));
    variables.add(variable);
    return { taken, name, variable, isUsed: false };
  });
}

function unique(text: string, isTaken: (text: string) => boolean): string {
  let result = text;
  for (let number = 2; isTaken(result); number += 1) {
    result = `${text}${number}`;
  }
  return result;
}

/** Returns an identifier: `web-1` and `Profile` become `web1Profile`. */
function identifier(name: string, suffix: string): string {
  const words = name.split(/[^A-Za-z0-9]+/).filter((word) => word !== "");
  const joined = words.map((word, index) => (index === 0 ? word : word.charAt(0).toUpperCase() + word.slice(1))).join("");
  const text = `${joined.charAt(0).toLowerCase()}${joined.slice(1)}${suffix}`;
  return /^[A-Za-z]/.test(text) ? text : `_${text}`;
}

function mapEntries(
  map: Readonly<Record<string, unknown>>,
  change: (key: string, value: unknown) => unknown,
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(key, value)]));
}

function mapMaps(
  maps: Readonly<Record<string, unknown>>,
  change: (name: string, key: string, value: unknown) => unknown,
): Record<string, unknown> {
  return mapEntries(maps, (name, map) => (isMap(map) ? mapEntries(map, (key, value) => change(name, key, value)) : map));
}
