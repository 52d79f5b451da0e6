/** Rules of a network ACL: what LXD accepts, and when two mean the same. */
import { isIPv4, isIPv6 } from "node:net";
import * as z from "zod";
import { knownFirst, sameMeanings } from "../../support/equality";
import { canonicalAddresses } from "../meaning";
import { aclNameSchema } from "../names";

/** A rule as LXD shows it. A field that is not set is empty. */
export const aclRuleSchema = z.looseObject({
  action: z.string(),
  source: z.string().default(""),
  destination: z.string().default(""),
  protocol: z.string().default(""),
  source_port: z.string().default(""),
  destination_port: z.string().default(""),
  icmp_type: z.string().default(""),
  icmp_code: z.string().default(""),
  description: z.string().default(""),
  state: z.string().default(""),
});

export type LiveRule = z.output<typeof aclRuleSchema>;

const number = z.union([z.string(), z.number()], "must be a string or a number").transform(String).optional();

const fieldsSchema = z.strictObject({
  action: z.enum(["allow", "allow-stateless", "drop", "reject"]),
  source: z.string().optional(),
  destination: z.string().optional(),
  protocol: z.enum(["tcp", "udp", "icmp4", "icmp6"]).optional(),
  sourcePort: number,
  destinationPort: number,
  icmpType: number,
  icmpCode: number,
  description: z.string().optional(),
  state: z.enum(["enabled", "disabled", "logged"]).default("enabled"),
});

export type Rule = z.output<typeof fieldsSchema>;

export type Direction = "ingress" | "egress";

/** The rules of one direction, checked as LXD checks them (`validateRule`, lxd/network/acl/driver_common.go). */
export function rulesSchema(direction: Direction) {
  return z
    .array(
      fieldsSchema.superRefine((rule, context) => {
        for (const [field, message] of Object.entries(faultsOf(rule, direction))) {
          context.addIssue({ code: "custom", path: [field], message });
        }
      }),
    )
    .superRefine((rules, context) => {
      const texts = rules.map((rule) => JSON.stringify(normalised(toLive(rule))));
      for (const [index, text] of texts.entries()) {
        const first = texts.indexOf(text);
        if (first < index) {
          context.addIssue({ code: "custom", path: [index], message: `is the same rule as ${direction}.${first}` });
        }
      }
    });
}

function faultsOf(rule: Rule, direction: Direction): Partial<Record<keyof Rule, string>> {
  const faults: Partial<Record<keyof Rule, string>> = {};
  const hasPorts = rule.protocol === "tcp" || rule.protocol === "udp";
  const isIcmp = rule.protocol === "icmp4" || rule.protocol === "icmp6";
  for (const field of ["sourcePort", "destinationPort"] as const) {
    const text = rule[field] ?? "";
    if (text !== "" && !hasPorts) {
      faults[field] = 'is possible only with protocol "tcp" or "udp"';
    } else if (text !== "" && !itemsOf(text).every(isPorts)) {
      faults[field] = 'is not a list of ports from 0 to 65535 and of ranges, such as "80,443,8000-8099"';
    }
  }
  for (const field of ["icmpType", "icmpCode"] as const) {
    const text = rule[field] ?? "";
    if (text !== "" && !isIcmp) {
      faults[field] = 'is possible only with protocol "icmp4" or "icmp6"';
    } else if (text !== "" && !(/^\d+$/.test(text) && Number(text) <= 255)) {
      faults[field] = "is not a number from 0 to 255";
    }
  }
  const named = direction === "ingress" ? "source" : "destination";
  const families = { source: new Set<Family>(), destination: new Set<Family>() };
  for (const field of ["source", "destination"] as const) {
    const text = rule[field] ?? "";
    for (const item of text === "" ? [] : itemsOf(text)) {
      const family = familyOf(item);
      if (family === undefined) {
        faults[field] =
          `contains "${item}", which is not an IP address, a network such as "10.0.0.0/8" or a range such as "10.0.0.1-10.0.0.9"${field === named ? ', nor the name of an ACL, "@internal" or "@external"' : ""}`;
      } else if (family === "name" && field !== named) {
        faults[field] = `contains "${item}": in ${direction} rules, only ${named} may contain names. Give addresses`;
      } else {
        families[field].add(family);
      }
    }
  }
  const excluded = rule.protocol === "icmp4" ? "IPv6" : "IPv4";
  for (const field of ["source", "destination"] as const) {
    if (isIcmp && families[field].has(excluded)) {
      faults[field] ??= `contains ${excluded} addresses, which protocol "${String(rule.protocol)}" does not have`;
    }
  }
  const { source, destination } = families;
  const lacks = (family: Family, a: ReadonlySet<Family>, b: ReadonlySet<Family>): boolean =>
    a.has(family) && b.size > 0 && !b.has(family) && !b.has("name");
  for (const family of ["IPv4", "IPv6"] as const) {
    if (lacks(family, source, destination) || lacks(family, destination, source)) {
      faults.destination ??= `must contain addresses of the same family as source (${family})`;
    }
  }
  return faults;
}

type Family = "IPv4" | "IPv6" | "name";

function itemsOf(list: string): string[] {
  return list.split(",").map((item) => item.trim());
}

function isPorts(text: string): boolean {
  const ends = text.split("-").map((end) => (/^\d{1,5}$/.test(end) ? Number(end) : Number.NaN));
  const [first = Number.NaN, last = first] = ends;
  return ends.length <= 2 && last <= 65535 && (ends.length === 1 ? first >= 0 : first < last);
}

function familyOf(text: string): Family | undefined {
  const [start = "", ...more] = text.split("-");
  if (isIPv4(start) || isIPv6(start)) {
    const [end = start] = more;
    return more.length > 1 || isIPv4(start) !== isIPv4(end) || isIPv6(start) !== isIPv6(end) ? undefined : addressFamily(start);
  }
  if (z.cidrv4().safeParse(text).success) {
    return "IPv4";
  }
  if (z.cidrv6().safeParse(text).success) {
    return "IPv6";
  }
  // "@network/peer" names a peering, "$set" a set of addresses, and "#internal" is an older spelling.
  return /^[@$#]./.test(text) || aclNameSchema.safeParse(text).success ? "name" : undefined;
}

function addressFamily(address: string): Family {
  return isIPv4(address) ? "IPv4" : "IPv6";
}

/** Returns a rule as LXD takes it. */
export function toLive(rule: Rule): LiveRule {
  return {
    action: rule.action,
    source: rule.source ?? "",
    destination: rule.destination ?? "",
    protocol: rule.protocol ?? "",
    source_port: rule.sourcePort ?? "",
    destination_port: rule.destinationPort ?? "",
    icmp_type: rule.icmpType ?? "",
    icmp_code: rule.icmpCode ?? "",
    description: rule.description ?? "",
    state: rule.state,
  };
}

/** Returns a rule of LXD in the program's form. */
function fromLive(live: LiveRule): Rule {
  const { action, source, destination, protocol, source_port, destination_port, icmp_type, icmp_code, description, state } = live;
  const fields = {
    ...{ action, source, destination, protocol, sourcePort: source_port, destinationPort: destination_port },
    ...{ icmpType: icmp_type, icmpCode: icmp_code, description, state },
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== "")) as Rule;
}

/** LXD removes spaces around each text and each item of a list (`NetworkACLRule.Normalise`), and then compares letter by letter. */
function normalised(rule: LiveRule): string[] {
  const { action, source, destination, protocol, source_port, destination_port, icmp_type, icmp_code, description, state } = rule;
  return [
    ...[action, protocol, icmp_type, icmp_code, description, state].map((text) => text.trim()),
    ...[source, destination, source_port, destination_port].map((list) => itemsOf(list).join()),
  ];
}

/** Text that is the same for rules of one meaning: the order of the items of a list and the spelling of an address do not matter. */
function meaningOf(given: Rule): string {
  const rule = toLive(given);
  const sorted = (list: string): string => itemsOf(list).sort().join();
  const { source, destination, source_port, destination_port } = rule;
  return JSON.stringify(
    normalised({
      ...rule,
      source: sorted(canonicalAddresses(source)),
      destination: sorted(canonicalAddresses(destination)),
      source_port: sorted(source_port),
      destination_port: sorted(destination_port),
    }),
  );
}

/** Whether two lists of rules mean the same. LXD applies them by action, whatever their order. */
export function sameRules(a: readonly Rule[], b: readonly Rule[]): boolean {
  return sameMeanings(a, b, meaningOf);
}

/** Returns the live rules, with the known ones in the known order and spelling. */
export function observedRules(known: readonly Rule[], live: readonly LiveRule[]): Rule[] {
  return knownFirst(known, live.map(fromLive), meaningOf);
}
