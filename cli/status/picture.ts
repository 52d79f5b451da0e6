/** The status of a cluster as a picture (SVG): each member with its instances, the networks that these are on, and the pools. Pure. */
import { type ClusterStatus, type InstanceStatus, type MemberStatus, named, type ObjectStatus } from "./contents";

const MARGIN = 20;
const TITLE_HEIGHT = 40;
const MEMBER_WIDTH = 360;
const HEAD_HEIGHT = 56;
const INSTANCE_HEIGHT = 64;
const BAR_HEIGHT = 30;
const GAP = 10;
/** Width of the lane of one network's wires, left of the instances. */
const LANE_WIDTH = 12;
/** Heights at which wires leave an instance. */
const MOST_STUBS = 4;
/** Characters of the small text that fit into a width of 10 pixels. */
const CHARACTERS_PER_10 = 1.6;

const STYLE = `
    .paper { fill: #ffffff; }
    .member { fill: #f6f8fa; stroke: #8c959f; stroke-width: 1.5; }
    .instance { fill: #ddf4ff; stroke: #0969da; stroke-width: 1.5; }
    .stopped { fill: #ffffff; stroke: #8c959f; }
    .network { fill: #e4e9ee; stroke: #8c959f; }
    .pool { fill: #fff8c5; stroke: #9a6700; }
    .wire { stroke: #57606a; stroke-width: 1.5; fill: none; }
    .fault { fill: #ffebe9; stroke: #cf222e; }
    text { font-family: -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", Helvetica, Arial, sans-serif; font-size: 13px; fill: #1f2328; }
    .title { font-size: 18px; font-weight: 600; }
    .name { font-size: 14px; font-weight: 600; }
    .quiet { fill: #57606a; font-size: 12px; }`;

export function drawStatus(status: ClusterStatus): string {
  const { title, clustered, members } = status;
  const columns = members.map((member, index) =>
    drawMember(status, member, MARGIN + index * (MEMBER_WIDTH + MARGIN), MARGIN + TITLE_HEIGHT),
  );
  const width = MARGIN + members.length * (MEMBER_WIDTH + MARGIN);
  const height = Math.max(...columns.map(({ bottom }) => bottom)) + MARGIN;
  const heading = `${title}, ${clustered ? `cluster of ${members.length}` : "standalone server"}`;
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title">`,
    `<title id="title">${escaped(heading)}</title>`,
    `<style>${STYLE}\n</style>`,
    box("paper", 0, 0, width, height),
    text("title", MARGIN, MARGIN + 16, heading, width - 2 * MARGIN),
    ...columns.flatMap(({ parts }) => parts),
    "</svg>",
  ];
  return `${lines.join("\n")}\n`;
}

/** A bar below the instances. */
interface Bar {
  readonly style: "network" | "pool";
  readonly label: string;
  readonly isFault: boolean;
  /** What a NIC names. */
  readonly name: string;
}

/** Draws a member from top to bottom: its name, its instances, its networks, its pools. */
function drawMember(status: ClusterStatus, member: MemberStatus, x: number, top: number): { parts: string[]; bottom: number } {
  const instances = status.instances.filter((each) => each.member === member.name);
  const networks = networksOf(status, member.name, instances);
  const pools = status.pools.flatMap((each) => barOf("pool", each, member.name));
  const lanes = networks.length * LANE_WIDTH;
  const firstInstance = top + HEAD_HEIGHT;
  const firstBar = firstInstance + instances.length * (INSTANCE_HEIGHT + GAP);
  const bottom = firstBar + (networks.length + pools.length) * (BAR_HEIGHT + GAP);
  const [left, width] = [x + GAP, MEMBER_WIDTH - 2 * GAP];
  const instanceTop = (index: number): number => firstInstance + index * (INSTANCE_HEIGHT + GAP);
  const barTop = (index: number): number => firstBar + index * (BAR_HEIGHT + GAP);
  const isOnline = member.status === "Online";
  const about = [member.address, ...member.roles].filter((each) => each !== "").join(", ");
  // The wires of a lower bar pass the bars above it on their left.
  const indent = (index: number): number => Math.max(0, networks.length - 1 - index) * LANE_WIDTH;
  const wires = networks.flatMap(({ name }, index) =>
    instances.flatMap(({ nics }, row) => {
      const at = left + indent(index) + LANE_WIDTH / 2;
      const from = instanceTop(row) + (1 + (index % MOST_STUBS)) * LANE_WIDTH;
      return nics.includes(name) ? [`<path class="wire" d="M ${left + lanes} ${from} H ${at} V ${barTop(index)}"/>`] : [];
    }),
  );
  const parts = [
    box(`member${isOnline ? "" : " fault"}`, x, top, MEMBER_WIDTH, bottom - top),
    text("name", left, top + 22, isOnline ? member.name : `${member.name}, ${member.status}`, width),
    text("quiet", left, top + 42, about, width),
    ...wires,
    ...instances.flatMap((each, index) => drawInstance(each, left + lanes, instanceTop(index), width - lanes)),
    ...[...networks, ...pools].flatMap(({ style, label, isFault }, index) => [
      box(`${style}${isFault ? " fault" : ""}`, left + indent(index), barTop(index), width - indent(index), BAR_HEIGHT),
      text("", left + indent(index) + GAP, barTop(index) + 20, label, width - indent(index) - 2 * GAP),
    ]),
  ];
  return { parts, bottom };
}

function drawInstance(instance: InstanceStatus, x: number, y: number, width: number): string[] {
  const { status, type, addresses, users } = instance;
  const look = { Running: "", Error: " fault" }[status] ?? " stopped";
  const about = [...addresses, ...users.map((user) => `user ${user}`)].join(", ");
  return [
    box(`instance${look}`, x, y, width, INSTANCE_HEIGHT),
    text("name", x + GAP, y + 22, named(instance), width - 2 * GAP),
    text("quiet", x + GAP, y + 39, [type, status].filter((each) => each !== "").join(", "), width - 2 * GAP),
    text("quiet", x + GAP, y + 55, about, width - 2 * GAP),
  ];
}

/** The networks on a member, and the interfaces of the host that instances use besides. */
function networksOf({ networks }: ClusterStatus, member: string, instances: readonly InstanceStatus[]): Bar[] {
  const managed = networks.flatMap((each) => barOf("network", each, member));
  const others = new Set(instances.flatMap(({ nics }) => nics).filter((nic) => !managed.some(({ name }) => name === nic)));
  return [
    ...managed,
    ...[...others].map((name): Bar => ({ style: "network", label: `interface ${name} of the host`, isFault: false, name })),
  ];
}

function barOf(style: Bar["style"], object: ObjectStatus, member: string): Bar[] {
  const { name, type, statuses } = object;
  const status = statuses[member];
  if (status === undefined) {
    return [];
  }
  const isFault = status !== "Created";
  const label = [`${style} ${named(object)}`, type, ...(isFault ? [status] : [])].filter((each) => each !== "").join(", ");
  return [{ style, label, isFault, name }];
}

function box(style: string, x: number, y: number, width: number, height: number): string {
  return `<rect class="${style}" x="${x}" y="${y}" width="${width}" height="${height}" rx="6"/>`;
}

/** Text that is cut at about the width. */
function text(style: string, x: number, y: number, words: string, width: number): string {
  const most = Math.floor((width / 10) * CHARACTERS_PER_10);
  const shown = words.length > most ? `${words.slice(0, most - 1)}…` : words;
  return `<text class="${style}" x="${x}" y="${y}">${escaped(shown)}</text>`;
}

function escaped(words: string): string {
  return words.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
