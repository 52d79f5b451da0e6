import type { SimulatedLab } from "../../lab/simulated";

/** An image server that only simulated hosts reach. */
export const IMAGE_SERVER = "https://images.test";

const UBUNTU = { server: IMAGE_SERVER, aliases: ["24.04"], properties: { os: "Ubuntu" } };

/** The image "24.04" of {@link IMAGE_SERVER} for each type of instance. */
export const REMOTE_IMAGES = [
  { ...UBUNTU, type: "container", fingerprint: "ab".repeat(32) },
  { ...UBUNTU, type: "virtual-machine", fingerprint: "cd".repeat(32) },
] as const;

/** Puts a newer image in the place of each one that {@link IMAGE_SERVER} offers. */
export function offerNewer(lab: SimulatedLab, fingerprint: string, properties: Record<string, string> = {}): void {
  const { remoteImages = [] } = lab.host("bcn2").daemon?.surroundings ?? {};
  const newer = remoteImages.map((offered) => ({
    ...offered,
    fingerprint,
    properties: { ...offered.properties, ...properties },
  }));
  remoteImages.splice(0, remoteImages.length, ...newer);
}
