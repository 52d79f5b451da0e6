/**
 * The import rules of the rooms, one way:
 * stacks -> components -> provider/index -> resources -> engine, lxd, host, machine -> transport -> support.
 */

/** What each room of our own may import, besides itself. */
const MAY_IMPORT = {
  "provider/support": [],
  "provider/transport": ["provider/support"],
  "provider/lxd": ["provider/transport", "provider/support"],
  // What is done to a host for LXD's sake knows how LXD is packaged and where it listens.
  "provider/host": ["provider/machine", "provider/lxd", "provider/transport", "provider/support"],
  // A guest is reached through LXD, a host over SSH.
  "provider/machine": ["provider/lxd", "provider/transport", "provider/support"],
  // The context that every lifecycle gets holds the connections to hosts and clusters.
  "provider/engine": ["provider/lxd", "provider/host", "provider/transport", "provider/support"],
  "provider/resources": ["provider/engine", "provider/lxd", "provider/host", "provider/machine", "provider/support"],
  // The two doors of the package, one for programs and one for the engine, and the schemas for the stacks.
  "provider/(index|entry|schemas)[.]ts": ["provider/resources", "provider/engine"],
  components: ["provider/index[.]ts"],
  // The command reads a cluster as the resources do, beside the two doors.
  cli: [
    "provider/resources",
    "provider/engine",
    "provider/host",
    "provider/machine",
    "provider/lxd",
    "provider/transport",
    "provider/support",
  ],
  stacks: ["components/index[.]ts", "provider/(index|schemas)[.]ts", "dist/(components|provider)/index[.]"],
  tools: ["package[.]json"],
};

const OURS = "^(provider|components|cli|stacks|lab|test|tools|dist)/";

/** @type {import("dependency-cruiser").IForbiddenRuleType[]} */
const rooms = Object.entries(MAY_IMPORT).map(([room, allowed]) => ({
  name: `rooms: ${room.replace("[.]", ".")}`,
  comment: allowed.length === 0 ? "imports nothing of ours" : `imports of ours only ${allowed.join(", ").replaceAll("[.]", ".")}`,
  severity: "error",
  from: { path: `^${room}` },
  to: { path: OURS, pathNot: [room, ...allowed].map((other) => `^${other}`) },
}));

/** @type {import("dependency-cruiser").IConfiguration} */
module.exports = {
  forbidden: [
    ...rooms,
    {
      name: "no cycles",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "ssh2 has one room",
      comment: "Only provider/transport talks SSH; the simulated hosts and the tests are its other end.",
      severity: "error",
      from: { pathNot: "^(provider/transport|lab/simulated|test)/" },
      to: { path: "node_modules/(@types/)?ssh2/" },
    },
    {
      name: "Pulumi stays above",
      comment: "Below the resources nothing knows that Pulumi exists.",
      severity: "error",
      from: { path: "^provider/(lxd|host|machine|transport|support)/" },
      to: { path: "node_modules/@pulumi/" },
    },
    {
      name: "components do no I/O",
      severity: "error",
      from: { path: "^components/" },
      to: { dependencyTypes: ["core"], pathNot: "^(node:)?(util|path|assert)$" },
    },
    {
      name: "published code needs published dependencies",
      comment: "A development dependency is not there in a user's program.",
      severity: "error",
      from: { path: "^(provider|components|cli)/" },
      to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"], pathNot: "node_modules/(@types|@pulumi/pulumi)/" },
    },
    {
      name: "everything is found",
      severity: "error",
      from: {},
      // The package refers to itself by its own name, which leads to dist/: there only when it is compiled. The type check sees to it.
      to: { couldNotResolve: true, pathNot: "^pulumi-lxd-cluster" },
    },
  ],
  options: {
    doNotFollow: { path: ["node_modules", "^dist"] },
    exclude: { path: ["^docs/", "^coverage/"] },
    tsConfig: { fileName: "tsconfig.json" },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["types", "require", "node", "default"] },
  },
};
