/**
 * cloud-init's data for guests of Incus. cloud-init reads the data of an LXD guest from /dev/lxd, which Incus does not have. Images for
 * Incus have templates that write the data to files of cloud-init's data source NoCloud. An instance whose image has no such
 * templates gets them, so that images for LXD work, and no image is changed.
 * @see https://linuxcontainers.org/incus/docs/main/reference/image_format/#templates
 * @see https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html
 */
import * as z from "zod";
import { api } from "../client/client";
import { CLOUD_INIT_TEXT, type Config } from "../config";
import type { InstanceRef } from "./instance-lock";
import { requireInstance } from "./instances";

const SEEDS = "/var/lib/cloud/seed/";
const OWN_PREFIX = "pulumi-cloud-init-";

const metadataSchema = z.looseObject({
  templates: z.record(z.string(), z.looseObject({ template: z.string() })).nullish(),
});

/** Returns the config's value, with the key `user.` of older versions as an alternative. */
function valueOf(kind: string): string {
  return `config_get("cloud-init.${kind}", config_get("user.${kind}", ""))`;
}

/** Templates by the files that they write. */
const TEMPLATES: Readonly<Record<string, string>> = {
  "meta-data":
    'instance-id: {{ config_get("volatile.cloud-init.instance-id", container.name) }}\nlocal-hostname: {{ container.name }}\n',
  ...Object.fromEntries(
    ["user-data", "vendor-data"].map((kind) => [
      kind,
      `{% if ${valueOf(kind)} == "" %}#cloud-config\n{}{% else %}{{ ${valueOf(kind)} }}{% endif %}\n`,
    ]),
  ),
  "network-config": `{{ ${valueOf("network-config")} }}\n`,
};

/**
 * Adds the templates that an instance of Incus needs for its cloud-init data. Incus applies them at each start, so that cloud-init
 * runs again after a change of the data, as with LXD.
 * @param known - Config with that of the profiles, if it was just read.
 */
export async function addCloudInitSeed(which: InstanceRef, known?: Config): Promise<void> {
  const { lxd, project, name } = which;
  if (lxd.names.server !== "incus") {
    return;
  }
  const config = known ?? (await requireInstance(which)).value.expanded_config;
  const given = Object.keys(config).filter((key) => CLOUD_INIT_TEXT.test(key) && config[key] !== "");
  if (given.length === 0) {
    return;
  }
  const path = api`/1.0/instances/${name}/metadata`;
  const found = await lxd.getWithEtag(path, metadataSchema, { project });
  const present = Object.entries(found.value.templates ?? {}).filter(([file]) => file.startsWith(SEEDS));
  if (present.some(([, { template }]) => !template.startsWith(OWN_PREFIX))) {
    return; // the image has its own
  }
  // Without this key, cloud-init chooses a configuration itself, which an empty file would prevent.
  const hasNetwork = given.some((key) => key.endsWith("network-config"));
  const wanted = Object.entries(TEMPLATES).filter(([kind]) => kind !== "network-config" || hasNetwork);
  const missing = wanted.filter(([kind]) => !present.some(([file]) => file === fileOf(kind)));
  if (missing.length === 0) {
    return;
  }
  for (const [kind, text] of missing) {
    const query = new URLSearchParams({ project, path: templateOf(kind) }).toString();
    const headers = { "content-type": "application/octet-stream", "content-length": Buffer.byteLength(text) };
    await lxd.beginRaw({ method: "POST", path: `${path}/templates?${query}`, headers, body: text });
  }
  const added: Record<string, object> = Object.fromEntries(
    missing.map(([kind]) => [fileOf(kind), { when: ["start"], template: templateOf(kind) }]),
  );
  const change = (live: z.output<typeof metadataSchema>): object => ({
    ...live,
    templates: { ...live.templates, ...added },
  });
  await lxd.modify(path, metadataSchema, change, { query: { project }, found });
}

function fileOf(kind: string): string {
  return `${SEEDS}nocloud-net/${kind}`;
}

function templateOf(kind: string): string {
  return `${OWN_PREFIX}${kind}.tpl`;
}
