/** The servers that can be simulated, and their differences. */
import type { FlavourName } from "../../debian-servers";
import { API_EXTENSIONS } from "./api-extensions";

/**
 * Servers that a simulated host can run. Four are in the lab of real hosts too, under the same names. `lxd-5.21` and `lxd-6` are only
 * in the snap store, and follow LXD's source.
 */
export type Flavour = FlavourName | "lxd-5.21" | "lxd-6";

/** Behaviour of one flavour where flavours differ. */
export interface Behaviour extends Differences {
  flavour: Flavour;
  apiExtensions: readonly string[];
}

interface Differences {
  server: "lxd" | "incus";
  /** As the server reports it. */
  version: string;
  /** Answer of `/wait` for a failed operation: the operation, or an error, with the HTTP status of the error or 200. */
  failedWait: "operation" | "error" | "error under 200";
  /** Storage pools and networks change in the background. */
  asyncPoolsAndNetworks: boolean;
  /** Profiles change in the background on PUT and PATCH. */
  asyncProfiles: boolean;
  /** Path of recorded output of commands. */
  execOutputPath: "logs" | "logs/exec-output";
  /** GET of a storage pool has an ETag. */
  poolEtags: boolean;
  /** After a refused change of the server's config, the local config has no keys but those of the request. */
  refusalReplacesLocalConfig: boolean;
  /** Servers and clients may be trusted by a password. */
  trustPassword: boolean;
  /** Roles of members that a person may assign. */
  manualRoles: readonly string[];
  /** `start: true` is applied when an instance is created. */
  createStarts: boolean;
  /** Joining and the trust store work as in LXD 5.21. */
  since521: boolean;
  /** The text for a place of an instance that does not exist has its name. */
  namesMissingPlace: boolean;
  /** What a member that is not empty has. */
  wordForInstances: "containers" | "instances";
  /** An image of a new instance is looked up by the operation, also by its alias. */
  lateAlias: boolean;
  /** The name of an instance may begin with a digit. */
  digitFirst: boolean;
  /** Start of the MAC addresses that the server chooses. */
  macPrefix: string;
  /** A name of an instance that is in use is refused before the operation begins. */
  refusesNameFirst: boolean;
  /** A move to the same member is refused before the operation begins. */
  refusesSameMemberFirst: boolean;
  /** Error for a row of the database that exists. */
  duplicateRow: (table: string, columns: string) => { status: number; text: string };
  /** A stopped instance moves as it is: no copy is made, no volume is looked for. */
  movesAsItIs: boolean;
  moveOfBackups: string;
  /** Names of most objects have to begin and end with a letter or digit, without characters that have a meaning in URLs. */
  apiNames: boolean;
  /** A change that does not mention the description keeps it. */
  keepsDescription: boolean;
  /** A NIC that never started cannot be removed from a running container. */
  needsStartedNic: boolean;
  /** Status for a network that a member already has. */
  duplicateNetworkStatus: number;
  /** A request for a member that is offline is answered with 503, without an attempt to reach it. */
  refusesOfflineMember: boolean;
  invalidCharacters: string;
  invalidYaml: string;
  /** A profile shows its project. */
  profileProject: boolean;
  /** An empty list of pools is null. */
  nullForNoPools: boolean;
  /** A member that answers lists itself as Offline after it has lost a peer: heartbeats wait for that one. */
  losesItself: boolean;
  /**
   * A member with more API extensions than others does not answer until all have them. Incus compares only the schema of the database, and shows
   * those that are behind as Blocked; LXD never does (`checkClusterIsUpgradable`, `NodeInfo.ToAPI`).
   */
  waitsForExtensions: boolean;
  /** How a virtual machine boots is `boot.mode`, in place of `security.secureboot` and `security.csm`. */
  bootMode: boolean;
  /** The metadata of Incus tells the keys of pools, networks and all devices. */
  describesAll: boolean;
  /** The key that hides the server's API from a guest. */
  guestApiKey: "security.devlxd" | "security.guestapi";
  /** Status for the removal of a group that has members. */
  nonEmptyGroupStatus: number;
  /** What happens to the last group of a member when the group is changed to be without it. */
  lastGroup: "lost" | "kept" | "refused";
  /** A key that was set to the server's default is shown. */
  showsDefaults: boolean;
  duplicateGroup: { status: number; text: string };
}

const bookworm: Differences = {
  server: "lxd",
  version: "5.0.2",
  failedWait: "operation",
  asyncPoolsAndNetworks: false,
  asyncProfiles: false,
  execOutputPath: "logs",
  poolEtags: false,
  refusalReplacesLocalConfig: false,
  trustPassword: true,
  manualRoles: ["event-hub", "ovn-chassis"],
  createStarts: false,
  bootMode: false,
  guestApiKey: "security.devlxd",
  nonEmptyGroupStatus: 500,
  lastGroup: "lost",
  showsDefaults: false,
  duplicateGroup: { status: 500, text: "This cluster group already exists" },
  since521: false,
  namesMissingPlace: false,
  wordForInstances: "containers",
  lateAlias: false,
  digitFirst: false,
  macPrefix: "00:16:3e",
  refusesNameFirst: false,
  refusesSameMemberFirst: false,
  duplicateRow: (table) => ({ status: 409, text: `This "${table}" entry already exists` }),
  movesAsItIs: false,
  moveOfBackups: "Instance has backups",
  apiNames: false,
  keepsDescription: false,
  needsStartedNic: false,
  duplicateNetworkStatus: 400,
  refusesOfflineMember: false,
  invalidCharacters: "invalid characters",
  invalidYaml: "yaml: ",
  profileProject: false,
  nullForNoPools: false,
  losesItself: false,
  waitsForExtensions: true,
  describesAll: false,
};

const trixie: Differences = {
  ...bookworm,
  failedWait: "error",
  poolEtags: true,
  refusalReplacesLocalConfig: true,
  namesMissingPlace: true,
  wordForInstances: "instances",
  lateAlias: true,
  digitFirst: true,
  movesAsItIs: true,
  needsStartedNic: true,
};

const incus: Differences = {
  ...trixie,
  server: "incus",
  trustPassword: false,
  version: "6.0.4",
  failedWait: "error under 200",
  macPrefix: "10:66:6a",
  refusesSameMemberFirst: true,
  duplicateRow: (table, columns) => ({
    status: 500,
    text: `Failed to create "${table}" entry: UNIQUE constraint failed: ${columns}`,
  }),
  moveOfBackups: "Instances with backups cannot be moved",
  duplicateNetworkStatus: 409,
  profileProject: true,
  nullForNoPools: true,
  losesItself: true,
  guestApiKey: "security.guestapi",
  lastGroup: "kept",
  duplicateGroup: {
    status: 500,
    text: 'Failed to create "cluster_groups" entry: UNIQUE constraint failed: cluster_groups.name',
  },
};

const incus7: Differences = {
  ...incus,
  waitsForExtensions: false,
  version: "7.0.2",
  manualRoles: ["event-hub", "ovn-chassis", "database-client"],
  failedWait: "operation",
  refusesOfflineMember: true,
  refusalReplacesLocalConfig: false,
  refusesNameFirst: true,
  duplicateRow: bookworm.duplicateRow,
  apiNames: true,
  keepsDescription: true,
  invalidCharacters: "invalid character",
  invalidYaml: "go-yaml load error: ",
  nullForNoPools: false,
  describesAll: true,
  showsDefaults: true,
  duplicateGroup: { status: 409, text: 'This "Cluster_group" entry already exists' },
};

const lxd521: Differences = {
  ...trixie,
  since521: true,
  version: "5.21.4",
  failedWait: "error under 200",
  execOutputPath: "logs/exec-output",
  createStarts: true,
};

const differences: Record<Flavour, Differences> = {
  "bookworm-lxd": bookworm,
  "trixie-lxd": trixie,
  "trixie-incus": incus,
  "trixie-incus7": incus7,
  "lxd-5.21": lxd521,
  "lxd-6": {
    ...lxd521,
    version: "6.9",
    trustPassword: false,
    manualRoles: ["event-hub", "ovn-chassis", "control-plane"],
    asyncPoolsAndNetworks: true,
    asyncProfiles: true,
    bootMode: true,
    lastGroup: "refused",
  },
};

/** The behaviour of a flavour. */
export function behaviourOf(flavour: Flavour): Behaviour {
  return { flavour, apiExtensions: API_EXTENSIONS[flavour], ...differences[flavour] };
}

/** An error text as this flavour writes it: LXD 6 expands contractions. */
export function inWordsOf({ flavour }: Behaviour, message: string): string {
  if (flavour !== "lxd-6") {
    return message;
  }
  return message.replace(/\b(is|does|was|are|do)n't\b/g, "$1 not").replace(/\bcan't\b/g, "cannot");
}
