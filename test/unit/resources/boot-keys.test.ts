import assert from "node:assert/strict";
import * as z from "zod";
import type { Flavour } from "../../../lab/simulated/lxd/flavours";
import { profileLifecycle } from "../../../provider/resources/lxd-profile";
import { vmLifecycle } from "../../../provider/resources/lxd-vm";
import { clusterOf, giveStorageAndNetwork, startServer } from "../../lifecycles/worlds";
import { Managed } from "./simulated-cluster";

const configOf = z.looseObject({ config: z.record(z.string(), z.string()) });

/** Inputs of programs, and the keys for each server. */
const WORDS: readonly [program: Record<string, string | boolean>, booleans: object, mode: string][] = [
  [{ "security.secureboot": false }, { "security.secureboot": "false" }, "uefi-nosecureboot"],
  [{ "security.secureboot": true }, { "security.secureboot": "true" }, "uefi-secureboot"],
  [{ "security.csm": true, "security.secureboot": false }, { "security.csm": "true", "security.secureboot": "false" }, "bios"],
  [{ "boot.mode": "uefi-nosecureboot" }, { "security.secureboot": "false" }, "uefi-nosecureboot"],
  [{ "boot.mode": "uefi-secureboot" }, { "security.secureboot": "true" }, "uefi-secureboot"],
  [{ "boot.mode": "bios" }, { "security.secureboot": "false", "security.csm": "true" }, "bios"],
];

const FLAVOURS: readonly [flavour: Flavour, hasModes: boolean, why: string][] = [
  ["bookworm-lxd", false, "which has no metadata"],
  ["lxd-5.21", false, "whose metadata has security.secureboot"],
  ["lxd-6", true, "whose metadata has boot.mode"],
];

for (const [flavour, hasModes, why] of FLAVOURS) {
  describe(`how a machine boots, on ${flavour}, ${why},`, () => {
    let lab: Awaited<ReturnType<typeof startServer>>;

    before(async () => {
      lab = await startServer(flavour);
      await giveStorageAndNetwork(lab);
      lab.seedImage("bcn2", { alias: "debian", type: "virtual-machine" });
    });

    after(async () => {
      const { defects } = lab;
      await lab.stop();
      assert.deepEqual(defects, []);
    });

    const bootKeysOf = async (path: string): Promise<object> => {
      const { config } = configOf.parse(await lab.byHand("bcn2", "GET", path));
      return Object.fromEntries(Object.entries(config).filter(([key]) => /^(boot\.mode|security\.(secureboot|csm))$/.test(key)));
    };
    const askedForMetadata = (): boolean => lab.requests.some(({ path }) => path === "/1.0/metadata/configuration");

    WORDS.forEach(([program, booleans, mode], index) => {
      const expected = hasModes ? { "boot.mode": mode } : booleans;
      const args = (more: object = {}): object => ({
        ...{ cluster: clusterOf(lab), name: `vm${index}`, image: { alias: "debian" }, config: { ...program, ...more } },
      });

      it(`a machine with ${JSON.stringify(program)} has ${JSON.stringify(expected)}`, async () => {
        const vm = new Managed(vmLifecycle, `vm${index}`);
        assert.equal(await vm.up(args()), "created");
        assert.deepEqual(await bootKeysOf(`/1.0/instances/vm${index}`), expected);
        assert.deepEqual((vm.inState("config") as Record<string, string>)["boot.mode"], program["boot.mode"]);
        assert.equal(await vm.preview(args()), "same");
        // It runs: if its keys counted as changed, any change would need a stop.
        assert.equal(await vm.preview(args({ "user.note": "changed" })), "updated");
        assert.equal(await vm.up(args({ "user.note": "changed" })), "updated");
        assert.deepEqual(vm.warnings, []);
        assert.deepEqual(await bootKeysOf(`/1.0/instances/vm${index}`), expected);
        assert.equal(await vm.up(args({ "user.note": "changed" })), "same");
      });

      it(`a profile with ${JSON.stringify(program)} has ${JSON.stringify(expected)}`, async () => {
        const profile = new Managed(profileLifecycle, `p${index}`);
        const { image: _, ...rest } = args() as Record<string, unknown>;
        assert.equal(await profile.up(rest), "created");
        assert.deepEqual(await bootKeysOf(`/1.0/profiles/vm${index}`), expected);
        assert.equal(await profile.preview(rest), "same");
        assert.equal(await profile.up({ ...rest, description: "changed" }), "updated");
        assert.deepEqual(await bootKeysOf(`/1.0/profiles/vm${index}`), expected);
      });
    });

    it("a mode that was set manually is drift, and is repaired", async () => {
      const profile = new Managed(profileLifecycle, "drifting");
      const args = { cluster: clusterOf(lab), name: "drifting", config: { "security.secureboot": false } };
      await profile.up(args);
      const config = hasModes ? { "boot.mode": "uefi-secureboot" } : { "security.secureboot": "true" };
      await lab.byHand("bcn2", "PATCH", "/1.0/profiles/drifting", { config });
      assert.equal(await profile.preview(args), "updated");
      assert.equal(await profile.up(args), "updated");
      assert.deepEqual(
        await bootKeysOf("/1.0/profiles/drifting"),
        hasModes ? { "boot.mode": "uefi-nosecureboot" } : { "security.secureboot": "false" },
      );
    });

    it("the server itself is asked, if possible", () => assert.equal(askedForMetadata(), flavour !== "bookworm-lxd"));
  });
}
