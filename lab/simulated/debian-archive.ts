/** What Debian has for a simulated host: packages with their versions, and its own names. */
import type { Flavour } from "./lxd/flavours";

/** The programs of storage drivers, and the packages that bring them. */
export const STORAGE_TOOLS = { btrfs: "btrfs-progs", zpool: "zfsutils-linux", lvs: "lvm2" };

/** Packages that hosts and guests can install, and do not have. */
export const ORDINARY_PACKAGES = {
  nginx: "1.22.1-9+deb12u3",
  "nvme-cli": "2.4+really2.3-3",
  smartmontools: "7.3-1+b1",
  jq: "1.6-2.1+deb12u1",
  curl: "7.88.1-10+deb12u14",
  libjq1: "1.6-2.1+deb12u1",
};

/** By package, the packages that need it. */
export const NEEDED_BY: Readonly<Record<string, readonly string[]>> = { libjq1: ["jq"] };

const BOOKWORM = {
  ...ORDINARY_PACKAGES,
  lxd: "5.0.2-5+deb12u6",
  "btrfs-progs": "6.2-1+deb12u1",
  "zfsutils-linux": "2.1.11-1+deb12u1",
  lvm2: "2.03.16-2",
};

const TRIXIE = {
  ...ORDINARY_PACKAGES,
  lxd: "5.0.2+git20231211.1364ae4-9+deb13u7",
  "btrfs-progs": "6.14-1",
  "dnsmasq-base": "2.91-1+deb13u2",
  "zfsutils-linux": "2.3.2-2",
  lvm2: "2.03.31-2",
};

/** The Debian packages that a host can install, with their versions. */
export function archiveOf(flavour: Flavour): Record<string, string> {
  const incus = (version: string) => ({ ...TRIXIE, incus: version, "incus-base": version });
  switch (flavour) {
    case "trixie-lxd":
      return TRIXIE;
    case "trixie-incus":
      return incus("6.0.4-2+deb13u12");
    case "trixie-incus7":
      return incus("7.0.2-3~bpo13+1");
    default:
      return BOOKWORM;
  }
}

/** A host's /etc/os-release. */
export function osReleaseOf(flavour: Flavour): string {
  const [number, name] = flavour.startsWith("trixie") ? ["13", "trixie"] : ["12", "bookworm"];
  return `PRETTY_NAME="Debian GNU/Linux ${number} (${name})"\nID=debian\nVERSION_ID="${number}"\n`;
}
