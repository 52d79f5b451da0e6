import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SimulatedLab } from "../../../lab/simulated";
import type { Image } from "../../../lab/simulated/lxd/database";
import { fingerprintOf } from "../../../provider/lxd/images/files";
import { imageLifecycle } from "../../../provider/resources/lxd-image";
import { IMAGE_SERVER, offerNewer } from "../../support/remote-images";
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
function imageIn(lab: SimulatedLab): Pick<Image, "public" | "autoUpdate" | "expiresAt"> {
  const [image] = [...(lab.host("bcn2").daemon?.database.images.values() ?? [])].filter(
    ({ aliases }) => !aliases.some(({ name }) => name === "other"),
  );
  return image ?? { public: false, autoUpdate: false, expiresAt: "" };
}

const NEWER: ManualChange = {
  text: "the alias on the image server points to a newer image",
  act: (lab) => offerNewer(lab, "cd".repeat(32), { "user.pulumi.urn": "urn:pulumi:of-the-image-server" }),
};

const OF_SERVER = {
  metadataPath: undefined,
  rootfsPath: undefined,
  sourceFingerprint: undefined,
  source: { server: IMAGE_SERVER, alias: "24.04" },
  instanceType: "container",
};

async function start(): Promise<World> {
  const world = await cluster({
    lab: {
      remoteImages: [
        { server: IMAGE_SERVER, aliases: ["24.04"], type: "container", fingerprint: "ab".repeat(32), properties: {} },
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
    "of an image server": OF_SERVER,
    "with updates": { ...OF_SERVER, autoUpdate: true, properties: {} },
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
        byHand: NEWER,
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
    autoUpdate: [
      {
        program: "with updates",
        byHand: {
          text: "`lxc image edit debian-12`, `auto_update: false`",
          act: (lab) => {
            imageIn(lab).autoUpdate = false;
          },
        },
        answer: "repaired",
        why: "the program defines whether the server replaces the image",
      },
      {
        byHand: {
          text: "`lxc image edit debian-12`, `auto_update: true`",
          act: (lab) => {
            imageIn(lab).autoUpdate = true;
          },
        },
        answer: "repaired",
        why: "without it in the program, the server replaces no image that this resource imported",
      },
    ],
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
    ],
  },

  outputs: {
    fingerprint: {
      program: "with updates",
      byHand: [NEWER, "lxc image refresh debian-12"],
      answer: "shown",
      why: "the server replaced the image as the program allows; without `autoUpdate` the fingerprint identifies the image",
    },
    formerFingerprints: {
      program: "with updates",
      byHand: [NEWER, "lxc image refresh debian-12"],
      answer: "shown",
      why: "an instance that was made from one of them is not replaced",
    },
    created: { answer: "cannot drift", why: "it is stored in state only" },
    ownAliases: { answer: "cannot drift", why: "it is stored in state only" },
    type: { answer: "cannot drift", why: "it follows from the content" },
    architecture: { answer: "cannot drift", why: "it follows from the content" },
    sizeBytes: { answer: "cannot drift", why: "it follows from the content" },
  },
});
