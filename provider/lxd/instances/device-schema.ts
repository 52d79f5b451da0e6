import { isIPv4, isIPv6 } from "node:net";
import * as z from "zod";
import { parseSize } from "../../support/units";
import { devicesSchema } from "../config";

/** A size such as "20GiB". */
export const sizeSchema = z.string().refine((text) => parseSize(text) !== undefined, "is not a size such as 20GiB or 500MB");

/**
 * Returns what is wrong with the value of a device option, or `undefined`. Leaves options that only LXD can check to
 * LXD.
 */
function problemWith(type: string, option: string, value: string): string | undefined {
  if (value === "") {
    return undefined;
  }
  if (option === "size") {
    return parseSize(value) === undefined ? "is not a size such as 20GiB or 500MB" : undefined;
  }
  if (type !== "nic") {
    return undefined;
  }
  switch (option) {
    case "hwaddr":
      return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value) ? undefined : "is not a MAC address such as 00:16:3e:12:34:56";
    case "ipv4.address":
      return problemInList(value, ["none"], isIPv4, "is not an IPv4 address (or several, with commas between)");
    case "ipv6.address":
      return problemInList(value, ["none"], isIPv6, "is not an IPv6 address (or several, with commas between)");
    case "ipv4.routes":
      return problemInList(value, [], isSubnet(isIPv4, 32), "is not an IPv4 network such as 192.0.2.0/24");
    case "ipv6.routes":
      return problemInList(value, [], isSubnet(isIPv6, 128), "is not an IPv6 network such as 2001:db8::/64");
    default:
      return undefined;
  }
}

function problemInList(value: string, words: string[], valid: (item: string) => boolean, problem: string): string | undefined {
  const items = value.split(",").map((item) => item.trim());
  return words.includes(value) || items.every(valid) ? undefined : `${problem}: ${items.find((item) => !valid(item))}`;
}

function isSubnet(isAddress: (text: string) => boolean, bits: number): (text: string) => boolean {
  return (text) => {
    const [address = "", prefix = "", ...rest] = text.split("/");
    return rest.length === 0 && isAddress(address) && /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits;
  };
}

/** {@link devicesSchema} with checked addresses and sizes, so that a typing error is reported before any change. */
export const checkedDevicesSchema = devicesSchema.superRefine((devices, issues) => {
  for (const [name, device] of Object.entries(devices)) {
    for (const [option, value] of Object.entries(device)) {
      const message = problemWith(device["type"] ?? "", option, value);
      if (message !== undefined) {
        issues.addIssue({ code: "custom", path: [name, option], message });
      }
    }
  }
});
