import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SimulatedLab } from "../../../lab/simulated";
import { fingerprintOf } from "../../../provider/lxd/images/files";
import { imageLifecycle } from "../../../provider/resources/lxd-image";
import type { ManualChange } from "./manual-changes";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp, type World } from "./world";

const OTHER: ManualChange = {
  text: "there is another image",
  act: (lab) => {
    lab.seedImage("bcn2", { alias: "other" });
  },
};

/** The only image of the lab that the resource could have created. */
function imageIn(lab: SimulatedLab): { public: boolean; autoUpdate: boolean; expiresAt: string } {
  const [image] = [...(lab.host("bcn2").daemon?.database.images.values() ?? [])].filter(
    ({ aliases }) => !aliases.some(({ name }) => name === "other"),
  );
  return image ?? { public: false, autoUpdate: false, expiresAt: "" };
}

async function start(): Promise<World> {
  const world = await cluster({
    lab: {
      remoteImages: [
        { server: "https://images.test", aliases: ["24.04"], type: "container", fingerprint: "ab".repeat(32), properties: {} },
      ],
    },
    prepare: [OTHER],
    look: async (two) => [
      await lookUp(two, "/1.0/images", { recursion: "1" }),
      await lookUp(two, "/1.0/images/aliases", { recursion: "1" }),
      two.lab.host("bcn2").daemon?.surroundings.remoteImages.map(({ fingerprint }) => fingerprint),
    ],
  });
  const directory = join(world.lab.knownHostsPath, "..");
  const files = { metadataPath: join(directory, "metadata.tar"), rootfsPath: join(directory, "rootfs.squashfs") };
  writeFileSync(files.metadataPath, "metadata");
  writeFileSync(files.rootfsPath, "rootfs");
  return { ...world, reach: { ...world.reach, ...files, sourceFingerprint: await fingerprintOf(files) } };
}

export const imageDrift = driftTable(imageLifecycle, {
  given: { aliases: ["debian-12"], properties: { release: "12", team: "a" } },
  start,
  programs: {
    "that expires": { expiresAt: "2035-06-30T12:00:00+02:00" },
    "of an image server": {
      metadataPath: undefined,
      rootfsPath: undefined,
      sourceFingerprint: undefined,
      source: { server: "https://images.test", alias: "24.04" },
      instanceType: "container",
    },
  },

  object: {
    "the image itself": {
      byHand: "lxc image delete debian-12",
      answer: "recreated",
      why: "LXD has no image with that fingerprint; its aliases are deleted with it",
    },
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing image and aliases are adopted"),
    project: { answer: "cannot drift", why: "LXD does not move an image to another project" },
    metadataPath: how("source of the content; the same content from another source is the same image"),
    rootfsPath: how("as `metadataPath`"),
    sourceFingerprint: { answer: "cannot drift", why: "an image is identified by its content; other content is another image" },
    instanceType: { answer: "cannot drift", why: "the type of an image never changes" },
    source: [
      {
        program: "of an image server",
        byHand: {
          text: "the alias on the image server points to a newer image",
          act: (lab) => {
            const { remoteImages } = lab.host("bcn2").daemon?.surroundings ?? { remoteImages: [] };
            remoteImages.splice(0, 1, {
              server: "https://images.test",
              aliases: ["24.04"],
              type: "container",
              fingerprint: "cd".repeat(32),
              properties: {},
            });
          },
        },
        answer: "ignored",
        why: "the alias is resolved once, when the image is copied",
      },
    ],
    aliases: [
      { byHand: "lxc image alias delete debian-12", answer: "repaired", why: "a missing alias of the program" },
      {
        byHand: ["lxc image alias delete debian-12", "lxc image alias create debian-12 other"],
        answer: "repaired",
        why: "an alias of this resource points to another image, and is moved back",
      },
      { byHand: "lxc image alias create bookworm debian-12", answer: "ignored", why: "an alias that the program does not list" },
    ],
    public: {
      byHand: {
        text: "`lxc image edit debian-12`, `public: true`",
        act: (lab) => {
          imageIn(lab).public = true;
        },
      },
      answer: "repaired",
      why: "the program defines whether the image is public",
    },
    expiresAt: {
      program: "that expires",
      byHand: {
        text: "`lxc image edit debian-12` with another `expires_at`",
        act: (lab) => {
          imageIn(lab).expiresAt = "2030-01-01T00:00:00Z";
        },
      },
      answer: "repaired",
      why: "the program defines it; an image of a program without it keeps what it has",
    },
    properties: [
      {
        byHand: "lxc image set-property debian-12 release 13",
        answer: "repaired",
        why: "another value of a property of the program",
      },
      { byHand: "lxc image unset-property debian-12 release", answer: "repaired", why: "a missing property of the program" },
      { byHand: "lxc image set-property debian-12 owner me", answer: "ignored", why: "images have their own properties" },
      {
        byHand: "lxc image unset-property debian-12 user.pulumi.urn",
        answer: "ignored",
        why: "state identifies the image by its content; the next change restores the ownership mark",
      },
      {
        byHand: {
          text: "`lxc image edit debian-12`, `auto_update: true`",
          act: (lab) => {
            imageIn(lab).autoUpdate = true;
          },
        },
        answer: "ignored",
        why: "it is not a property of this resource. LXD may then replace this image by a newer one, and this one is recreated",
      },
    ],
  },

  outputs: {
    fingerprint: { answer: "cannot drift", why: "it identifies the image" },
    created: { answer: "cannot drift", why: "it is stored in state only" },
    ownAliases: { answer: "cannot drift", why: "it is stored in state only" },
    type: { answer: "cannot drift", why: "it follows from the content" },
    architecture: { answer: "cannot drift", why: "it follows from the content" },
    sizeBytes: { answer: "cannot drift", why: "it follows from the content" },
  },
});
