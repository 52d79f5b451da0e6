/** What is installed in a guest, and what it can install. */
import { ORDINARY_PACKAGES } from "./debian-archive";
import { noTrouble } from "./programs/packages";

/** The packages of a guest. A test may change all of it. */
export class GuestSoftware {
  packageManager: "apt" | "apk" | "none" = "apt";
  readonly packages = new Map<string, string>([["bash", "5.2.15-2+b8"]]);
  readonly heldPackages = new Set<string>();
  /** Packages that can be installed, with their newest version. */
  readonly archive = new Map<string, string>(Object.entries(ORDINARY_PACKAGES));
  /** Older versions that the sources have besides. */
  readonly olderVersions = new Map<string, string[]>();
  readonly packageTrouble = noTrouble();

  versionsOf(name: string): string[] {
    const newest = this.archive.get(name);
    return newest === undefined ? [] : [newest, ...(this.olderVersions.get(name) ?? [])];
  }

  installPackage(name: string, version = this.archive.get(name) ?? "1"): void {
    this.packages.set(name, version);
  }

  removePackage(name: string): void {
    this.packages.delete(name);
    this.heldPackages.delete(name);
  }
}
