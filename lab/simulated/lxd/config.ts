/** String values by key, as everywhere in LXD. */
export type Config = Record<string, string>;

/** Devices by name. */
export type Devices = Record<string, Config>;
