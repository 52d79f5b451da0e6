import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { SimulatedLab } from "../../../lab/simulated";
import { fingerprintOf } from "../../../provider/lxd/images/files";
import { imageLifecycle } from "../../../provider/resources/lxd-image";
import type { Hand } from "./by-hand";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, see, type World } from "./world";

const OTHER: Hand = {
  words: "there is another image",
  act: (lab) => {
    lab.seedImage("bcn2", { alias: "other" });
  },
};

/** The only image of the lab that the resource could have made. */
function imageIn(lab: SimulatedLab): { public: boolean; autoUpdate: boolean } {
  const [image] = [...(lab.host("bcn2").daemon?.database.images.values() ?? [])].filter(
    ({ aliases }) => !aliases.some(({ name }) => name === "other"),
  );
  return image ?? { public: false, autoUpdate: false };
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
      await see(two, "/1.0/images", { recursion: "1" }),
      await see(two, "/1.0/images/aliases", { recursion: "1" }),
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
      answer: "made again",
      why: "LXD says that there is none of that fingerprint; its aliases went with it",
    },
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an image and aliases that others made are taken over"),
    project: { answer: "cannot drift", why: "LXD does not move an image to another project" },
    metadataPath: how("where the content is read; the same content from elsewhere is the same image"),
    rootfsPath: how("as `metadataPath`"),
    sourceFingerprint: { answer: "cannot drift", why: "an image is found by its content; other content is another image" },
    instanceType: { answer: "cannot drift", why: "an image is of one type for good" },
    source: [
      {
        program: "of an image server",
        byHand: {
          words: "the alias on the image server comes to stand for a newer image",
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
        answer: "left alone",
        why: "what the alias means is looked up once, when the image is copied",
      },
    ],
    aliases: [
      { byHand: "lxc image alias delete debian-12", answer: "repaired", why: "an alias that was given is missing" },
      {
        byHand: ["lxc image alias delete debian-12", "lxc image alias create debian-12 other"],
        answer: "repaired",
        why: "an alias that is this resource's own points to another image, and is moved back",
      },
      { byHand: "lxc image alias create bookworm debian-12", answer: "left alone", why: "an alias that was not given" },
    ],
    public: {
      byHand: {
        words: "`lxc image edit debian-12`, `public: true`",
        act: (lab) => {
          imageIn(lab).public = true;
        },
      },
      answer: "repaired",
      why: "whether strangers can get the image is the program's",
    },
    properties: [
      {
        byHand: "lxc image set-property debian-12 release 13",
        answer: "repaired",
        why: "another value of a property that was given",
      },
      { byHand: "lxc image unset-property debian-12 release", answer: "repaired", why: "a property that was given is missing" },
      { byHand: "lxc image set-property debian-12 owner me", answer: "left alone", why: "images bring properties along" },
      {
        byHand: "lxc image unset-property debian-12 user.pulumi.urn",
        answer: "left alone",
        why: "state knows the image by its content; the mark of its owner is written again with the next change",
      },
      {
        byHand: {
          words: "`lxc image edit debian-12`, `auto_update: true`",
          act: (lab) => {
            imageIn(lab).autoUpdate = true;
          },
        },
        answer: "left alone",
        why: "it is no property of this resource. LXD may then put a newer image in the place of this one, which is made again",
      },
    ],
  },

  outputs: {
    fingerprint: { answer: "cannot drift", why: "it is how the image is found" },
    created: { answer: "cannot drift", why: "it is kept in state alone" },
    ownAliases: { answer: "cannot drift", why: "it is kept in state alone" },
    type: { answer: "cannot drift", why: "it follows from the content" },
    architecture: { answer: "cannot drift", why: "it follows from the content" },
    sizeBytes: { answer: "cannot drift", why: "it follows from the content" },
  },
});
