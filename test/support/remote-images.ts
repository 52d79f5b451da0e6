/** An image server that only simulated hosts reach. */
export const IMAGE_SERVER = "https://images.test";

const UBUNTU = { server: IMAGE_SERVER, aliases: ["24.04"], properties: { os: "Ubuntu" } };

/** The image "24.04" of {@link IMAGE_SERVER} for each type of instance. */
export const REMOTE_IMAGES = [
  { ...UBUNTU, type: "container", fingerprint: "ab".repeat(32) },
  { ...UBUNTU, type: "virtual-machine", fingerprint: "cd".repeat(32) },
] as const;
