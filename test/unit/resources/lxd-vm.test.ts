import assert from "node:assert/strict";
import { dynamicProvider } from "../../../provider/engine/adapter";
import { differences } from "../../../provider/engine/state";
import { OWNER_KEY } from "../../../provider/lxd/config";
import { addressesOf, type Instance } from "../../../provider/lxd/instances/instances";
import { toApi } from "../../../provider/lxd/instances/spec";
import { fromApi, vmLifecycle, vmSchema } from "../../../provider/resources/lxd-vm";

const cluster = { endpoints: [{ host: "bcn2" }] };
const provider = dynamicProvider(vmLifecycle, { progress: () => undefined, info: () => undefined, warn: () => undefined });

const inputsOf = (args: object = {}) => vmSchema.parse({ cluster, name: "web1", image: { alias: "debian-12" }, ...args });

const root = { type: "disk", path: "/", pool: "default" };
const nic = { type: "nic", network: "lxdbr0", name: "eth0" };
const profile = { name: "default", description: "", config: {}, devices: { root, eth0: nic }, used_by: [] };

function instanceOf(more: Partial<Instance> = {}): Instance {
  return {
    name: "web1",
    type: "virtual-machine",
    architecture: "x86_64",
    description: "",
    ephemeral: false,
    status: "Running",
    location: "bcn1",
    last_used_at: "2026-01-01T00:00:00Z",
    profiles: ["default"],
    config: { "volatile.eth0.hwaddr": "00:16:3e:00:00:01", "image.os": "Debian", [OWNER_KEY]: "urn" },
    devices: {},
    expanded_config: {},
    expanded_devices: { root, eth0: nic },
    ...more,
  };
}

const stateOf = (args: object = {}, outputs: object = {}) => ({
  ...inputsOf(args),
  status: "Running",
  location: "bcn1",
  addresses: {},
  macAddresses: {},
  expandedConfig: {},
  expandedDevices: { root, eth0: nic },
  imageFingerprint: "",
  startedAt: "2026-01-01T00:00:00Z",
  bootMemory: "",
  ...outputs,
});

describe("LxdVm check", () => {
  const refused: [title: string, args: object, message: string | RegExp][] = [
    ["an invalid host name", { name: "web_1" }, /^name is not a valid instance name/],
    ["an unknown property", { memroy: "1GiB" }, "memroy is not a known property; did you mean memory?"],
    ["invalid memory", { memory: "4 gigs" }, "memory is not an amount of memory such as 4GiB or 512MiB"],
    ["no memory at all", { memory: "0" }, "memory is not an amount of memory such as 4GiB or 512MiB"],
    ["invalid CPUs", { cpu: "many" }, 'cpu is neither a number of CPUs nor a set of them such as "0-3"'],
    ["half a CPU", { cpu: 0.5 }, /^cpu must be a whole number/],
    ["an invalid disk size", { rootDisk: { size: "big" } }, "rootDisk.size is not a size such as 20GiB or 500MB"],
    ["an empty root disk", { rootDisk: {} }, "rootDisk needs size or pool"],
    ["an image without a name", { image: {} }, "image needs either alias or fingerprint"],
    [
      "a protocol without a server",
      { image: { alias: "a", protocol: "simplestreams" } },
      "image.protocol is only for an image of a server; give image.server, too",
    ],
    [
      "a server with an invalid address",
      { image: { alias: "a", server: "ubuntu" } },
      "image.server must be the https:// address of an image server",
    ],
    [
      "a bad MAC address",
      { devices: { eth0: { ...nic, hwaddr: "00:16:3e:1" } } },
      "devices.eth0.hwaddr is not a MAC address such as 00:16:3e:12:34:56",
    ],
    [
      "a bad IPv4 address",
      { devices: { eth0: { ...nic, "ipv4.address": "10.0.0.300" } } },
      "devices.eth0.ipv4.address is not an IPv4 address (or several, with commas between): 10.0.0.300",
    ],
    [
      "a bad IPv6 address",
      { devices: { eth0: { ...nic, "ipv6.address": "fe80::g" } } },
      "devices.eth0.ipv6.address is not an IPv6 address (or several, with commas between): fe80::g",
    ],
    [
      "a bad route",
      { devices: { eth0: { ...nic, "ipv4.routes": "10.0.0.0/99" } } },
      "devices.eth0.ipv4.routes is not an IPv4 network such as 192.0.2.0/24: 10.0.0.0/99",
    ],
    ["a device without a type", { devices: { eth0: { network: "x" } } }, "devices.eth0 needs a type, such as nic or disk"],
    ["limits.cpu in config", { config: { "limits.cpu": 2 } }, "config.limits.cpu has its own argument: use cpu"],
    ["limits.memory in config", { config: { "limits.memory": "1GiB" } }, "config.limits.memory has its own argument: use memory"],
    [
      "user data in config",
      { config: { "cloud-init.user-data": "" } },
      "config.cloud-init.user-data has its own argument: use cloudInit.userData",
    ],
    [
      "volatile keys in config",
      { config: { "volatile.eth0.hwaddr": "" } },
      /^config.volatile.eth0.hwaddr is written by the server/,
    ],
    [
      "user data that is not YAML",
      { cloudInit: { userData: "#cloud-config\nusers: [" } },
      /^cloudInit.userData is not valid YAML at line 2, column \d+/,
    ],
    [
      "user data that is a list, with blanks after its header",
      { cloudInit: { userData: "#cloud-config \r\n- a" } },
      "cloudInit.userData is not a YAML mapping",
    ],
    ["an invalid target", { target: "bcn 1" }, "target is neither the name of a member nor @group"],
    [
      "an unknown thing to wait for",
      { waitFor: [{ for: "luck" }] },
      "waitFor.0.for must be running, agent, ipv4, ipv6, cloud-init or command",
    ],
    ["an address on no NIC", { waitFor: [{ for: "ipv4" }] }, "waitFor.0.nic is required"],
    ["two root disks", { rootDisk: { size: "1GiB" }, devices: { root } }, "rootDisk cannot be given together with devices.root"],
  ];
  for (const [title, args, message] of refused) {
    it(`refuses ${title}`, async () => {
      const { failures } = await provider.check({}, { cluster, name: "web1", image: { alias: "a" }, ...args });
      assert.equal(failures.length, 1, JSON.stringify(failures));
      const reason = failures[0]?.reason ?? "";
      assert(typeof message === "string" ? reason === message : message.test(reason), reason);
    });
  }

  it("never quotes user data, which may hold secrets", async () => {
    const cloudInit = { userData: "#cloud-config\npassword: 'hunter2" };
    const { failures } = await provider.check({}, { cluster, name: "web1", image: { alias: "a" }, cloudInit });
    assert.equal(failures.length, 1);
    assert.doesNotMatch(JSON.stringify(failures), /hunter2/);
  });

  it("accepts what LXD accepts, and fills in defaults", () => {
    const inputs = inputsOf({
      cpu: 2,
      memory: "50%",
      target: "",
      image: { alias: "24.04", server: "https://cloud-images.ubuntu.com/releases/" },
      devices: { eth0: { type: "nic", nictype: "routed", parent: "eno1", "ipv4.address": "192.0.2.1,192.0.2.2" } },
      config: { "cloud-init.ssh-keys.me": "root:gh:me" },
      cloudInit: { userData: "#!/bin/sh\nfor [", networkConfig: "version: 2" },
    });
    assert.equal(inputs.cpu, "2");
    assert.equal(inputs.target, undefined);
    assert.deepEqual(inputs.profiles, ["default"]);
    assert.equal(inputs.instanceType, "virtual-machine");
    assert.equal(inputs.running, true);
    assert.deepEqual(inputs.waitFor, [{ for: "running" }]);
    assert.equal("protocol" in inputs.image && inputs.image.protocol, "simplestreams");
  });
});

describe("user data that is not cloud-config is passed on as it is:", () => {
  const gzip = Buffer.from("1f8b0800", "hex").toString("base64");
  for (const userData of [
    "#cloud-config-archive\n- type: text/cloud-config\n  content: [\n",
    "#cloud-config-jsonp\n[{",
    "#!/bin/sh\nfor [",
    "## template: jinja\n#cloud-config\n{% if a %}\n",
    "#include\nhttps://example.org/a",
    "#include-once\nhttps://example.org/a",
    "#part-handler\ndef list_types(:",
    "#cloud-boothook\n- [",
    "#upstart-job\n[",
    'Content-Type: multipart/mixed; boundary="=="\nMIME-Version: 1.0\n\n--==\n',
    gzip,
    "#cloud-config\na: 1\na: 2\n",
    "",
  ]) {
    it(JSON.stringify(userData.split("\n", 1)[0]), () => {
      const cloudInit = { userData, vendorData: userData };
      assert.deepEqual(inputsOf({ cloudInit }).cloudInit, cloudInit);
    });
  }
});

describe("LxdVm diff", () => {
  const MADE = { imageFingerprint: "0123456789ab".padEnd(64, "0") };
  const CAPITALS = { devices: { eth1: { ...nic, hwaddr: "00:16:3E:AA:BB:CC" } } };
  const same: [title: string, state: object, inputs: object, outputs?: object][] = [
    ["memory in other units", { memory: "4GiB" }, { memory: "4096MiB" }],
    ["a boolean in another spelling", { config: { "boot.autostart": "true" } }, { config: { "boot.autostart": 1 } }],
    [
      "a newline at the end of user data",
      { cloudInit: { userData: "#cloud-config\n" } },
      { cloudInit: { userData: "#cloud-config" } },
    ],
    ["cloudInit without any text", {}, { cloudInit: {} }],
    ["a disk size in other units", { rootDisk: { size: "20GiB" } }, { rootDisk: { size: "20480MiB" } }],
    ["a pool named that it has", { rootDisk: { size: "20GiB" } }, { rootDisk: { size: "20GiB", pool: "default" } }],
    ["no target", { target: "bcn1" }, {}],
    ["a group that chose", {}, { target: "@fast" }],
    ["a target where it is", {}, { target: "bcn1" }],
    ["a target from which it was evacuated", {}, { target: "bcn2" }, { evacuatedFrom: "bcn2" }],
    ["an image pinned by the fingerprint that it was made from", {}, { image: { fingerprint: "0123456789ab" } }, MADE],
    [
      "the address of the image's server without its slash",
      { image: { alias: "24.04", server: "https://cloud-images.ubuntu.com/releases/" } },
      { image: { alias: "24.04", server: "https://cloud-images.ubuntu.com/releases" } },
    ],
    ["a MAC address in capitals", { devices: { eth1: { ...nic, hwaddr: "00:16:3e:aa:bb:cc" } } }, CAPITALS],
    ["its waits", {}, { waitFor: [{ for: "agent" }], allowRestart: true, adopt: true }],
  ];
  for (const [title, state, inputs, outputs] of same) {
    it(`sees no difference in ${title}`, () => {
      assert.deepEqual(differences(vmLifecycle, stateOf(state, outputs), inputsOf(inputs)), []);
    });
  }

  const different: [property: string, state: object, inputs: object][] = [
    ["description", {}, { description: "x" }],
    ["profiles", { profiles: ["a", "b"] }, { profiles: ["b", "a"] }],
    ["cpu", { cpu: 2 }, {}],
    ["memory", { memory: "4GB" }, { memory: "4GiB" }],
    ["rootDisk", { rootDisk: { size: "20GiB" } }, {}],
    ["rootDisk", { rootDisk: { pool: "default" } }, { rootDisk: { pool: "fast" } }],
    ["devices", {}, { devices: { eth1: nic } }],
    ["config", { config: { "user.a": "1" } }, {}],
    ["cloudInit", { cloudInit: { userData: "a" } }, { cloudInit: { userData: "b" } }],
    ["target", {}, { target: "bcn2" }],
    ["running", { running: false }, {}],
    ["image", {}, { image: { fingerprint: "0123456789ab" } }],
    ["instanceType", {}, { instanceType: "container" }],
    ["name", {}, { name: "web2" }],
  ];
  for (const [property, state, inputs] of different) {
    it(`sees ${property} change: ${JSON.stringify(state)} to ${JSON.stringify(inputs)}`, () => {
      assert.deepEqual(differences(vmLifecycle, stateOf(state), inputsOf(inputs)), [property]);
    });
  }
});

describe("LxdVm previewWarnings", () => {
  const warnings = (inputs: object, outputs: object = {}) =>
    vmLifecycle.previewWarnings?.(stateOf({}, { expandedConfig: { "limits.memory": "4GiB" }, ...outputs }), inputsOf(inputs));

  it("says in the preview that up will refuse, with the key, the instance and the remedy", () => {
    assert.deepEqual(warnings({ config: { "raw.qemu": "-s" }, memory: "4GiB" }), [
      'pulumi up will refuse this. This change requires stopping the running instance "web1"; nothing is changed. ' +
        "raw.qemu: unset to -s; it is not changed while a virtual machine runs. " +
        "Set allowRestart: true to let pulumi up stop and start it, or stop it first",
    ]);
  });

  it("announces a restart that is allowed", () => {
    const change = { config: { "raw.qemu": "-s" }, memory: "4GiB", allowRestart: true };
    assert.match(warnings(change)?.[0] ?? "", /^Instance "web1" will be stopped and started\./);
  });

  it("announces that a move needs a stop", () => {
    assert.match(warnings({ target: "bcn2" })?.[0] ?? "", /target: bcn1 to bcn2; a running instance is not moved/);
  });

  it("says that up will refuse what LXD never does, also for an instance that is stopped", () => {
    const outputs = { status: "Stopped", expandedDevices: { root } };
    assert.match(
      warnings({ rootDisk: { pool: "fast" }, memory: "8GiB" }, outputs)?.join() ?? "",
      /^pulumi up will refuse this\. Instance "web1" cannot be changed like this\. devices\.root\.pool: the root disk is in pool "default"/,
    );
  });

  const silent: [title: string, inputs: object, outputs: object][] = [
    ["for a change that applies while it runs", { memory: "2GiB" }, {}],
    ["for an instance that is stopped", { memory: "8GiB" }, { status: "Stopped" }],
    ["when it is to be stopped anyway", { memory: "8GiB", running: false }, {}],
    ["when it is replaced", { memory: "8GiB", instanceType: "container" }, {}],
  ];
  for (const [title, inputs, outputs] of silent) {
    it(`is silent ${title}`, () => {
      assert.deepEqual(warnings(inputs, outputs), []);
    });
  }
});

describe("LxdVm toApi", () => {
  it("writes every argument to its place in LXD", () => {
    const inputs = inputsOf({ cpu: "0-3", memory: "4GiB", cloudInit: { networkConfig: "version: 2" }, config: { "user.a": 1 } });
    assert.deepEqual(toApi(inputs, [profile], "urn:x").config, {
      "user.a": "1",
      "limits.cpu": "0-3",
      "limits.memory": "4GiB",
      "cloud-init.network-config": "version: 2",
      [OWNER_KEY]: "urn:x",
    });
  });

  it("keeps LXD's own keys, and the current spelling of equal values", () => {
    const live = instanceOf({
      config: {
        "volatile.uuid": "u",
        "image.os": "Debian",
        "user.pulumi.other": "kept",
        "limits.memory": "4096MiB",
        "user.hand": "x",
      },
    });
    assert.deepEqual(toApi(inputsOf({ memory: "4GiB" }), [profile], "", live).config, {
      "volatile.uuid": "u",
      "image.os": "Debian",
      "user.pulumi.other": "kept",
      "limits.memory": "4096MiB",
    });
  });

  const rootDisks: [title: string, rootDisk: object | undefined, devices: object][] = [
    ["inherits the root disk", undefined, {}],
    ["overrides the size with a copy of the whole device", { size: "20GiB" }, { root: { ...root, size: "20GiB" } }],
    ["overrides the pool", { pool: "fast" }, { root: { ...root, pool: "fast" } }],
    ["inherits a pool that is the same", { pool: "default" }, {}],
  ];
  for (const [title, rootDisk, devices] of rootDisks) {
    it(title, () => {
      assert.deepEqual(toApi(inputsOf({ rootDisk }), [profile], "").devices, devices);
    });
  }

  it("creates its own root disk where no profile has one, and keeps the name that a profile gave", () => {
    assert.deepEqual(toApi(inputsOf({ rootDisk: { pool: "fast" } }), [], "").devices, { root: { ...root, pool: "fast" } });
    const other = { ...profile, devices: { disk0: root } };
    assert.deepEqual(Object.keys(toApi(inputsOf({ rootDisk: { size: "1GiB" } }), [other], "").devices), ["disk0"]);
  });
});

describe("LxdVm fromApi", () => {
  it("is the inverse of toApi for all arguments", () => {
    const args = {
      description: "d",
      cpu: 2,
      memory: "4GiB",
      rootDisk: { size: "20GiB" },
      devices: { eth1: { type: "nic", network: "other" } },
      config: { "boot.autostart": true },
      cloudInit: { userData: "#cloud-config\n{}\n" },
      profiles: ["default"],
      target: "bcn1",
    };
    const written = toApi(inputsOf(args), [profile], "urn");
    const expanded_devices = { root: { ...root, size: "20GiB" }, ...written.devices };
    const live = instanceOf({ ...written, profiles: ["default"], expanded_devices });
    const seen = fromApi(live, stateOf(args));
    assert.deepEqual(differences(vmLifecycle, { ...stateOf(), ...seen }, inputsOf(args)), []);
    assert.deepEqual(seen.config, { "boot.autostart": "true" });
  });

  const drift: [title: string, live: Partial<Instance>, property: string][] = [
    ["a key set by hand", { config: { "user.hand": "x" } }, "config"],
    ["memory set by hand", { config: { "limits.memory": "1GiB" } }, "memory"],
    ["CPUs set by hand", { config: { "limits.cpu": "1" } }, "cpu"],
    ["user data set by hand", { config: { "cloud-init.user-data": "x" } }, "cloudInit"],
    ["a device added by hand", { devices: { eth1: nic } }, "devices"],
    ["a root disk overridden by hand", { devices: { root: { ...root, size: "9GiB" } } }, "rootDisk"],
    ["another profile", { profiles: ["default", "big"] }, "profiles"],
    ["no profile", { profiles: null }, "profiles"],
    ["a stop", { status: "Stopped" }, "running"],
    ["a freeze", { status: "Frozen" }, "running"],
    ["a move", { location: "bcn2" }, "target"],
  ];
  for (const [title, live, property] of drift) {
    it(`shows ${title} as ${property}`, () => {
      const args = { target: "bcn1" };
      const instance = instanceOf(live);
      const seen = { ...stateOf(args, { location: instance.location }), ...fromApi(instance, stateOf(args)) };
      assert.deepEqual(differences(vmLifecycle, seen, inputsOf(args)), [property]);
    });
  }

  it("counts Ready as running", () => {
    assert.equal(fromApi(instanceOf({ status: "Ready" }), stateOf()).running, true);
  });

  it("keeps the target of an instance that was evacuated from there", () => {
    const instance = instanceOf({ location: "bcn2", config: { "volatile.evacuate.origin": "bcn1" } });
    assert.equal(fromApi(instance, stateOf({ target: "bcn1" })).target, "bcn1");
  });
});

describe("addressesOf", () => {
  it("finds a NIC's addresses by its MAC, whatever its name in the guest, without link-local ones", () => {
    const network = {
      lo: { hwaddr: "", addresses: [{ family: "inet", address: "127.0.0.1", scope: "local" }] },
      docker0: { hwaddr: "02:42:00:00:00:01", addresses: [{ family: "inet", address: "172.17.0.1", scope: "global" }] },
      enp5s0: {
        hwaddr: "00:16:3E:00:00:01",
        addresses: [
          { family: "inet", address: "10.0.0.5", scope: "global" },
          { family: "inet6", address: "fe80::1", scope: "link" },
          { family: "inet6", address: "fd00::5", scope: "global" },
        ],
      },
    };
    const state = { status: "Running", processes: 5, network };
    assert.deepEqual(addressesOf(instanceOf({ state })), { eth0: { ipv4: ["10.0.0.5"], ipv6: ["fd00::5"] } });
  });

  it("prefers a MAC of the program, and outputs no addresses of a stopped instance", () => {
    const expanded_devices = { eth0: { ...nic, hwaddr: "00:16:3E:AA:AA:AA" } };
    assert.deepEqual(addressesOf(instanceOf({ expanded_devices, state: { status: "Stopped", processes: 0, network: null } })), {
      eth0: { ipv4: [], ipv6: [] },
    });
  });
});
