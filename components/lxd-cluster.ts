import * as pulumi from "@pulumi/pulumi";
import {
  type ClusterConnectionArgs,
  type ConnectionArgs,
  type InstallArgs,
  LxdClusterMember,
  type LxdClusterMemberArgs,
  LxdImage,
  type LxdImageArgs,
  LxdNetwork,
  type LxdNetworkArgs,
  LxdNode,
  type LxdNodeArgs,
  LxdStoragePool,
  type LxdStoragePoolArgs,
} from "../provider/index";
import { childOptions } from "./child-options";
import { mapValues } from "./map-values";
import { mergeSettings } from "./merge-settings";

/** A host that becomes a member of the cluster. */
export interface ClusterHostArgs {
  /** Name of the member. Plain text, because the resources' names contain it. */
  name: string;
  /** Address for the other members: an IP address or DNS name, with a port unless it is 8443 (`fd00::2`, `[fd00::2]:8444`). */
  address: pulumi.Input<string>;
  /** How to reach the host by SSH. */
  connection: pulumi.Input<ConnectionArgs>;
  /** Arguments of the host's {@link LxdNode}: how LXD is installed on this one, the host's config. @default {} */
  node?: Omit<LxdNodeArgs, "connection">;
  /** Arguments of the host's {@link LxdClusterMember}: its values for the join, its config in the cluster. @default {} */
  member?: Omit<LxdClusterMemberArgs, "connection" | "name" | "address" | "cluster" | "peers" | "certificateFingerprint">;
  /**
   * Whether the host is only a voter of the cluster's database: it takes no instances, except those that name it as `target`
   * (`scheduler.instance: manual`). It still has its part of each storage pool and network.
   * @default false
   */
  voterOnly?: boolean;
  /** Resources that must exist before the host is changed, such as commands that prepare it. @default none */
  dependsOn?: pulumi.Input<pulumi.Resource>[];
}

/** Arguments of {@link LxdCluster}. */
export interface LxdClusterArgs {
  /** The hosts. The first one bootstraps the cluster, and the others join through it. */
  hosts: ClusterHostArgs[];
  /**
   * How the server is installed on all hosts that have no `node.install`. Another version, channel or revision upgrades the members one after
   * the other.
   * @default that of {@link LxdNode}
   */
  install?: LxdNodeArgs["install"];
  /**
   * Identity of the cluster: the SHA-256 of its certificate. State keeps the fingerprint found when the cluster is made; give it
   * to confirm a renewed certificate.
   * @default the fingerprint in state
   */
  certificateFingerprint?: pulumi.Input<string>;
  /** Storage pools by name. @default none */
  pools?: Record<string, Omit<LxdStoragePoolArgs, "cluster" | "name">>;
  /** Networks by name. @default none */
  networks?: Record<string, Omit<LxdNetworkArgs, "cluster" | "name">>;
  /** Images by the alias under which instances use them. @default none */
  images?: Record<string, Omit<LxdImageArgs, "cluster" | "aliases">>;
}

/** The key of a member's config that says which instances it takes, and its value for none but those that name it. */
const SCHEDULER = "scheduler.instance";
const VOTER_ONLY = "manual";

/**
 * A cluster of hosts, with its storage pools, networks and images. They are made in the order of their dependencies: LXD on each
 * host, the first member, the other members, pools, networks, images.
 *
 * @example
 * ```typescript
 * const cluster = new LxdCluster("lab", {
 *   hosts: [
 *     { name: "bcn2", address: "192.168.1.102", connection: { host: "192.168.1.102", privateKeyPath: "~/.ssh/id_ed25519" } },
 *     { name: "bcn1", address: "192.168.1.101", connection: { host: "192.168.1.101", privateKeyPath: "~/.ssh/id_ed25519" } },
 *   ],
 *   pools: { default: { driver: "zfs", config: { size: "100GiB" } } },
 *   networks: { lxdbr0: { config: { "ipv4.address": "192.168.100.1/24", "ipv4.nat": true } } },
 * });
 * new LxdProfile("web", { cluster, name: "web" });
 * ```
 */
export class LxdCluster extends pulumi.ComponentResource {
  /**
   * How to reach the cluster; export it for other stacks. A resource that uses it waits for members, pools, networks and images.
   */
  readonly connection: pulumi.Output<ClusterConnectionArgs>;
  /** The same as `connection`. With it, `cluster` of other resources accepts the component itself. */
  readonly asCluster: pulumi.Output<ClusterConnectionArgs>;
  /** The `LxdNode` of each host, by the member's name. */
  readonly nodes: Readonly<Record<string, LxdNode>>;
  /**
   * What the upgrade of each member has reached, and what comes next, at the last refresh: the outputs `upgradeState` and `recommendedAction` of
   * {@link LxdNode}, by the member's name.
   */
  readonly upgrades: pulumi.Output<
    Record<
      string,
      { state: pulumi.Unwrap<LxdNode["upgradeState"]>; recommendedAction: pulumi.Unwrap<LxdNode["recommendedAction"]> }
    >
  >;
  /** The members by name. */
  readonly members: Readonly<Record<string, LxdClusterMember>>;
  /** The storage pools by name. */
  readonly pools: Readonly<Record<string, LxdStoragePool>>;
  /** The networks by name. */
  readonly networks: Readonly<Record<string, LxdNetwork>>;
  /** The images by alias. */
  readonly images: Readonly<Record<string, LxdImage>>;
  private readonly childOptions: (dependsOn: pulumi.Input<pulumi.Resource>[]) => pulumi.CustomResourceOptions;

  /**
   * @param name - Name of the component, and prefix of its resources' names.
   * @param args - The hosts, and the cluster's pools, networks and images.
   * @param opts - Pulumi's options. They apply to all children; the resources in `dependsOn` exist before the first child is
   * made.
   * @throws ResourceError when there is no host, or two hosts have the same name or address.
   */
  constructor(name: string, args: LxdClusterArgs, opts?: pulumi.ComponentResourceOptions) {
    super("lxd-cluster:index:LxdCluster", name, {}, opts);
    this.childOptions = (dependsOn) => childOptions(this, opts, { dependsOn });
    this.refuseDuplicates(args.hosts);
    const [primaryHost, ...otherHosts] = args.hosts;
    if (primaryHost === undefined) {
      throw new pulumi.ResourceError("hosts: a cluster needs at least one host", this, true);
    }
    const primary = { host: primaryHost, node: this.makeNode(name, primaryHost, args.install) };
    const others = otherHosts.map((host) => ({ host, node: this.makeNode(name, host, args.install, primary.node) }));
    this.nodes = Object.fromEntries([primary, ...others].map(({ host, node }) => [host.name, node]));
    this.upgrades = pulumi.output(
      mapValues(this.nodes, ({ upgradeState: state, recommendedAction }) => ({ state, recommendedAction })),
    );
    const cluster = {
      ...(others.length > 0 && { peers: others.map(({ host }) => host.connection) }),
      ...(args.certificateFingerprint !== undefined && { certificateFingerprint: args.certificateFingerprint }),
    };
    const first = this.makeMember(
      name,
      primary,
      cluster,
      otherHosts.flatMap(({ dependsOn = [] }) => dependsOn),
    ); // the first member asks its peers whether the cluster exists
    const joined = Object.fromEntries(
      others.map((other) => [other.host.name, this.makeMember(name, other, { cluster: first }, [first])]),
    );
    this.members = { [primary.host.name]: first, ...joined };
    const members = Object.values(this.members);
    this.pools = mapValues(args.pools ?? {}, (pool, poolName) => {
      const cluster = this.connectionAfter(members);
      return new LxdStoragePool(`${name}-${poolName}`, { ...pool, cluster, name: poolName }, this.childOptions(members));
    });
    this.networks = mapValues(args.networks ?? {}, (network, networkName) => {
      const cluster = this.connectionAfter(members);
      return new LxdNetwork(`${name}-${networkName}`, { ...network, cluster, name: networkName }, this.childOptions(members));
    });
    const prepared = [...members, ...Object.values(this.pools), ...Object.values(this.networks)];
    this.images = mapValues(args.images ?? {}, (image, alias) => {
      const cluster = this.connectionAfter(prepared);
      return new LxdImage(`${name}-${alias}`, { ...image, cluster, aliases: [alias] }, this.childOptions(prepared));
    });
    this.connection = this.connectionAfter([...prepared, ...Object.values(this.images)]);
    this.asCluster = this.connection;
    this.registerOutputs({ connection: this.connection, members: Object.keys(this.members) });
  }

  private refuseDuplicates(hosts: readonly ClusterHostArgs[]): void {
    for (const key of ["name", "address"] as const) {
      // LXD's port is optional.
      const values = hosts.map(({ [key]: value }) => (typeof value === "string" ? value.replace(/:8443$/, "") : value));
      const twice = values.find((value, index) => typeof value === "string" && values.indexOf(value) !== index);
      if (typeof twice === "string") {
        throw new pulumi.ResourceError(`hosts: two of them have the ${key} "${twice}". Each needs its own`, this, true);
      }
    }
  }

  /**
   * Makes the node of a host.
   * @param common - How the server is installed on all hosts.
   * @param primary - Node whose snap revision the host gets, so that a held cluster can grow.
   */
  private makeNode(name: string, host: ClusterHostArgs, common: LxdNodeArgs["install"], primary?: LxdNode): LxdNode {
    const { connection, node: args = {}, dependsOn = [] } = host;
    const wanted = args.install ?? common;
    const install = primary === undefined ? wanted : installLike(primary, wanted);
    return new LxdNode(
      `${name}-${host.name}`,
      { ...args, connection, ...(install !== undefined && { install }) },
      this.childOptions(dependsOn),
    );
  }

  /**
   * Makes the membership of a host. The provider queues joins, so each further member depends on the first one alone.
   * @param before - Resources that must exist first, besides LXD on its host.
   */
  private makeMember(
    name: string,
    { host, node }: { host: ClusterHostArgs; node: LxdNode },
    cluster: Pick<LxdClusterMemberArgs, "cluster" | "peers" | "certificateFingerprint">,
    before: pulumi.Input<pulumi.Resource>[] = [],
  ): LxdClusterMember {
    return new LxdClusterMember(
      `${name}-${host.name}`,
      { ...host.member, ...this.configOf(host), connection: node.connection, name: host.name, address: host.address, ...cluster },
      this.childOptions([node, ...before]),
    );
  }

  /** The config of a member that is only a voter; otherwise what it is given. */
  private configOf({ name, voterOnly = false, member }: ClusterHostArgs): Pick<LxdClusterMemberArgs, "config"> {
    if (!voterOnly) {
      return {};
    }
    const given = member?.config ?? {};
    const scheduler = (given as Readonly<Record<string, unknown>>)[SCHEDULER] ?? VOTER_ONLY; // of an output, the option wins
    if (scheduler !== VOTER_ONLY) {
      throw new pulumi.ResourceError(
        `hosts: ${name} has voterOnly, which contradicts its ${SCHEDULER}. Remove one of them`,
        this,
        true,
      );
    }
    const { config } = mergeSettings({ config: given }, { config: { [SCHEDULER]: VOTER_ONLY } });
    return { config };
  }

  /**
   * The connection to the cluster through all members in order, for children that need some resources to exist. A preview knows
   * it, because the connections are inputs of the members and a URN is always known.
   */
  private connectionAfter(resources: readonly pulumi.Resource[]): pulumi.Output<ClusterConnectionArgs> {
    const endpoints = pulumi.all(Object.values(this.members).map((member) => member.connection));
    const [first] = Object.values(this.members);
    const existing = pulumi.all(resources.map((resource) => resource.urn));
    return pulumi.all([first?.asCluster, endpoints, existing]).apply(([cluster, known]) => ({ ...cluster, endpoints: known }));
  }
}

/**
 * Returns an installation with the snap revision of another host, unless the program gives a revision or turns `cohort` or `hold`
 * off. Hosts of different architectures have different revisions.
 */
function installLike(node: LxdNode, wanted: LxdNodeArgs["install"]): LxdNodeArgs["install"] {
  if (wanted === false || (typeof wanted === "object" && "method" in wanted && wanted.method === "deb")) {
    return wanted; // nothing to wait for
  }
  return pulumi.all([wanted, node.revision]).apply(([install = { method: "snap" as const }, revision]): InstallArgs | false => {
    const isAlike =
      install !== false &&
      install.method === "snap" &&
      install.cohort !== false &&
      install.hold !== false &&
      install.revision === undefined;
    return isAlike && revision !== undefined ? { ...install, revision } : install;
  });
}
