import { isIPv4, isIPv6 } from "node:net";
import * as z from "zod";
import { parseSize } from "../../support/units";
import { devicesSchema } from "../config";

const isSize = (text: string): boolean => parseSize(text) !== undefined;
const NOT_A_SIZE = "is not a size such as 20GiB or 500MB";

export const sizeSchema = z.string().refine(isSize, NOT_A_SIZE);

/** Options of a network device whose value is a list with commas, and what each item must be. */
const NIC_LISTS: Readonly<Record<string, { isValid: (item: string) => boolean; problem: string }>> = {
  "ipv4.address": { isValid: isIPv4, problem: "is not an IPv4 address (or several, with commas between)" },
  "ipv6.address": { isValid: isIPv6, problem: "is not an IPv6 address (or several, with commas between)" },
  "ipv4.routes": {
    isValid: (item) => z.cidrv4().safeParse(item).success,
    problem: "is not an IPv4 network such as 192.0.2.0/24",
  },
  "ipv6.routes": {
    isValid: (item) => z.cidrv6().safeParse(item).success,
    problem: "is not an IPv6 network such as 2001:db8::/64",
  },
};

/** Returns what is wrong with the value of a device option, or `undefined`. Leaves options that only LXD can check to LXD. */
function problemWith(type: string, option: string, value: string): string | undefined {
  if (option === "size") {
    return isSize(value) ? undefined : NOT_A_SIZE;
  }
  if (type !== "nic") {
    return undefined;
  }
  if (option === "hwaddr") {
    return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value) ? undefined : "is not a MAC address such as 00:16:3e:12:34:56";
  }
  const list = NIC_LISTS[option];
  if (list === undefined || (value === "none" && option.endsWith(".address"))) {
    return undefined;
  }
  const wrong = value
    .split(",")
    .map((item) => item.trim())
    .find((item) => !list.isValid(item));
  return wrong === undefined ? undefined : `${list.problem}: ${wrong}`;
}

/** {@link devicesSchema} with checked addresses and sizes, so that a typing error is reported before any change. */
export const checkedDevicesSchema = devicesSchema.superRefine((devices, issues) => {
  for (const [name, device] of Object.entries(devices)) {
    for (const [option, value] of Object.entries(device)) {
      const message = value === "" ? undefined : problemWith(device["type"] ?? "", option, value);
      if (message !== undefined) {
        issues.addIssue({ code: "custom", path: [name, option], message });
      }
    }
  }
});
