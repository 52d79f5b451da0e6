/**
 * The servers that the suite runs on, and what it expects of each where they differ. Each expectation holds for a server as it is
 * installed from Debian; the simulated hosts must agree.
 */
import { DEBIAN_SERVERS, type DebianServer, type FlavourName } from "../../../lab/debian-servers";

/** How a request fails: refused with a status, or accepted and failed by its operation. */
export interface Failure {
  readonly status: number | "operation";
  readonly reply: RegExp;
}

/** One server, and what it does differently. */
export interface Server {
  readonly debian: DebianServer;
  readonly version: string;
  /** Number of its API extensions. Only this tells Debian 13's LXD from Debian 12's. */
  readonly apiExtensions: number;
  /** How the library calls its packaging. */
  readonly packaging: "deb" | "incus";
  /** Packages to install. Those of Incus do not require the one that its bridges need. */
  readonly packages: readonly string[];

  /** Answer to the wait for a failed operation: the operation, or an error, in some servers under the HTTP status of a success. */
  readonly failedWait: { readonly status: number; readonly type: "sync" | "error" };
  /** For a new place of an instance. Newer servers look for it among those that can take the instance. */
  readonly placeNotFound: RegExp;
  /** Newer servers look for the image in the operation, because it may come from elsewhere. */
  readonly unknownAlias: Failure;
  /** Whether an instance's name may begin with a digit. Newer servers take every host name. */
  readonly digitFirst: boolean;
  /** Incus has its own prefix. */
  readonly hardwareAddress: RegExp;
  /** Incus has its own texts, and 7 looks for the name before it begins the operation. */
  readonly duplicateInstance: Failure;
  /** Incus 6 shows the database's text, and does not recognize it. */
  readonly duplicateProject: Failure;
  /** Incus compares the members before it begins the operation. */
  readonly moveToSameMember: Failure;
  /**
   * Whether a stopped instance moves with everything that it has: one that is protected from deletion, and one with a volume that stays
   * behind. Newer servers change its place in the database, where older ones make a copy and delete the original.
   */
  readonly movesAsItIs: boolean;
  readonly moveOfBackups: RegExp;
  /** Whether names of objects and devices have to begin and end with a letter or digit, without characters that have a meaning in URLs. */
  readonly apiNames: boolean;
  /** Whether a change that does not mention the description keeps it. Incus 7 tells absent from empty. */
  readonly keepsDescription: boolean;
  /** Newer servers cannot remove a NIC that never started from a running instance. They have saved the profile by then. */
  readonly removalOfUnstartedNic: RegExp | undefined;
  /** Newer LXD says instances for containers. */
  readonly memberNotEmpty: RegExp;
  /** Whether one member's view of a pool has an ETag. */
  readonly memberPoolEtag: boolean;
  /** Status for a network that a member already has. */
  readonly duplicateNetworkStatus: number;
  /** Answer to a request for a member that is offline. Incus 7 does not try to reach it, and says that the request may be sent later. */
  readonly offlineMember: Failure;
  readonly invalidCharacters: RegExp;
  /** Fields of a profile that only some servers send. */
  readonly profileFields: Readonly<Record<string, string>>;
  readonly invalidYaml: RegExp;
  /** The owners of keys, and types of devices, whose keys its metadata tells. */
  readonly tellsKeysOf: readonly string[];
  /** The key that hides the server's API from a guest. Neither server has that of the other. */
  readonly guestApiKey: "security.devlxd" | "security.guestapi";
  /** Whether a refused change of the server's config removes the local keys that the request did not have. */
  readonly refusalReplacesLocalConfig: boolean;
  /** Whether clients may be trusted by a password. */
  readonly trustPassword: boolean;
  /** Roles of members that a person may assign. */
  readonly manualRoles: readonly string[];
  /** Whether a key that was set to the server's default is shown. */
  readonly showsDefaults: boolean;
  /** Whether groups of members have a config, and tell who uses them. */
  readonly groupsHaveConfig: boolean;
  /** Whether an instance that was placed in a group shows that. */
  readonly showsGroupOfInstance: boolean;
  readonly duplicateGroup: Failure;
  readonly groupOfNobody: Failure;
  readonly nonEmptyGroupStatus: number;
  /** What a change that leaves a member without a group does: LXD 5.0 makes it, Incus keeps the member in the group. */
  readonly keepsLastGroup: boolean;
  /** Whether certificates in the trust store have a description. */
  readonly describesCertificates: boolean;
  /** For a certificate that is restricted to a project that does not exist. */
  readonly trustInNoProject: Failure;
}

const bookworm: Server = {
  debian: DEBIAN_SERVERS.lxd,
  version: "5.0.2",
  apiExtensions: 318,
  packaging: "deb",
  packages: ["lxd"],
  failedWait: { status: 200, type: "sync" },
  placeNotFound: /Cluster member not found$/,
  unknownAlias: { status: 404, reply: /Image alias not found/ },
  digitFirst: false,
  hardwareAddress: /^00:16:3e:/,
  duplicateInstance: { status: "operation", reply: /entry already exists/ },
  duplicateProject: { status: 409, reply: /already exists/ },
  moveToSameMember: { status: "operation", reply: /Target must be different/ },
  movesAsItIs: false,
  moveOfBackups: /^Instance has backups$/,
  apiNames: false,
  keepsDescription: false,
  removalOfUnstartedNic: undefined,
  memberNotEmpty: /still has the following containers: c1/,
  memberPoolEtag: false,
  duplicateNetworkStatus: 400,
  offlineMember: { status: 500, reply: /Missing event connection/ },
  invalidCharacters: /invalid characters/,
  profileFields: {},
  invalidYaml: /yaml: /,
  tellsKeysOf: [],
  guestApiKey: "security.devlxd",
  refusalReplacesLocalConfig: false,
  trustPassword: true,
  manualRoles: ["event-hub", "ovn-chassis"],
  showsDefaults: false,
  groupsHaveConfig: false,
  showsGroupOfInstance: false,
  duplicateGroup: { status: 500, reply: /^This cluster group already exists$/ },
  groupOfNobody: { status: 500, reply: /NOT NULL constraint failed/ },
  nonEmptyGroupStatus: 500,
  keepsLastGroup: false,
  describesCertificates: false,
  trustInNoProject: { status: 404, reply: /Project not found/ },
};

const trixie: Server = {
  ...bookworm,
  apiExtensions: 334,
  failedWait: { status: 404, type: "error" },
  placeNotFound: /Cluster member "nobody" not found$/,
  unknownAlias: { status: "operation", reply: /Image not provided/ },
  digitFirst: true,
  movesAsItIs: true,
  removalOfUnstartedNic: /Failed clearing netprio rules.*device name is empty/,
  memberNotEmpty: /still has the following instances: c1/,
  memberPoolEtag: true,
  refusalReplacesLocalConfig: true,
};

const incus: Server = {
  ...trixie,
  // The latter once it has failed to connect for events, which depends on the time since the last heartbeat: its internal/server/cluster/events.go.
  offlineMember: { status: 500, reply: /^(Missing event connection with target cluster member|Server isn't ready yet)$/ },
  debian: DEBIAN_SERVERS.incus,
  version: "6.0.4",
  failedWait: { status: 200, type: "error" },
  apiExtensions: 450,
  packaging: "incus",
  packages: ["incus-base", "dnsmasq-base"],
  hardwareAddress: /^10:66:6a:/,
  duplicateInstance: { status: "operation", reply: /UNIQUE constraint failed: instances\.project_id, instances\.name$/ },
  duplicateProject: { status: 500, reply: /UNIQUE constraint failed: projects\.name$/ },
  moveToSameMember: { status: 400, reply: /Requested target server is the same/ },
  moveOfBackups: /^Instances with backups cannot be moved$/,
  duplicateNetworkStatus: 409,
  profileFields: { project: "default" },
  tellsKeysOf: ["instance", "project", "member", "disk", "server"],
  trustPassword: false,
  showsGroupOfInstance: true,
  duplicateGroup: { status: 500, reply: /UNIQUE constraint failed: cluster_groups\.name$/ },
  keepsLastGroup: true,
  describesCertificates: true,
  guestApiKey: "security.guestapi",
};

const incus7: Server = {
  ...incus,
  version: "7.0.2",
  manualRoles: [...incus.manualRoles, "database-client"],
  failedWait: bookworm.failedWait,
  apiExtensions: 562,
  offlineMember: { status: 503, reply: /^Cluster member ".*" is offline$/ },
  duplicateInstance: { status: 500, reply: /^Instance "c1" already exists$/ },
  duplicateProject: bookworm.duplicateProject,
  keepsDescription: true,
  apiNames: true,
  invalidCharacters: /invalid character/,
  invalidYaml: /go-yaml load error/,
  tellsKeysOf: ["instance", "project", "member", "pool", "volume", "network", "disk", "nic", "server"],
  refusalReplacesLocalConfig: false,
  groupsHaveConfig: true,
  showsDefaults: true,
  duplicateGroup: { status: 409, reply: /^This "Cluster_group" entry already exists$/ },
};

const SERVERS: Readonly<Record<FlavourName, Server>> = {
  "bookworm-lxd": bookworm,
  "trixie-lxd": trixie,
  "trixie-incus": incus,
  "trixie-incus7": incus7,
};

export function serverOf(flavour: FlavourName): Server {
  return SERVERS[flavour];
}
