import assert from "node:assert/strict";
import * as z from "zod";
import { exchange } from "../../../provider/lxd/client/http";
import { fingerprintOf } from "../../../provider/lxd/images/files";
import { uploadImage } from "../../../provider/lxd/images/images";
import { createInstance, untilCreated } from "../../../provider/lxd/instances/creation";
import {
  addressesOf,
  deleteInstance,
  findInstance,
  forceStopInstance,
  getInstanceState,
  getInstanceWithState,
  type InstancePut,
  instanceSchema,
  moveInstance,
  replaceInstance,
  startInstance,
  stopInstance,
} from "../../../provider/lxd/instances/instances";
import { findInstanceWithStateShared } from "../../../provider/lxd/instances/shared-reads";
import { waitFor } from "../../../provider/lxd/instances/wait";
import { refusalsOfSavedProfile } from "../../../provider/lxd/profile-changes";
import { createProfile, deleteProfile, findProfile, replaceProfile } from "../../../provider/lxd/profiles";
import { deleteObject, findObject } from "../../../provider/lxd/storage-and-networks/member-objects";
import { network } from "../../../provider/lxd/storage-and-networks/networks";
import { pool } from "../../../provider/lxd/storage-and-networks/storage-pools";
import { replyOf } from "../../../provider/support/errors";
import { type ContractLab, failed, fails, refused } from "./harness";
import type { Server } from "./servers";

type Body = Parameters<typeof createInstance>[1];

/** Instances: creating, changing, moving and deleting. Leaves a running one on the second member. */
export function instancesContract(lab: () => ContractLab): void {
  const make = async (
    change: Partial<Body> & { name?: string },
    target: string | undefined = lab().harness.secondary.name,
  ): Promise<void> => {
    const { name = lab().instance, ...rest } = change;
    const image = { alias: lab().alias };
    const body: Body = {
      type: "container",
      image,
      profiles: ["default"],
      config: {},
      devices: {},
      description: "",
      ephemeral: false,
      ...rest,
    };
    const work = await lab().work(name);
    await createInstance(work, body, target, () => lab().lxd());
  };
  const contents = async (change: (live: InstancePut) => InstancePut): Promise<void> =>
    replaceInstance(await lab().work(), ({ architecture, config, devices, ephemeral, profiles, description }) =>
      change({ architecture, config, devices, ephemeral, profiles: profiles ?? [], description }),
    );
  const state = async (): Promise<string> => (await getInstanceState(await lab().work())).status;

  describe("an instance is refused", () => {
    const atOnce: [
      what: string,
      change: Parameters<typeof make>[0],
      target: string | undefined,
      status: number,
      reply: RegExp | ((server: Server) => RegExp),
    ][] = [
      ["with a profile that does not exist", { profiles: ["nope"] }, undefined, 500, /Requested profile "nope" doesn't exist/],
      ["on a member that does not exist", {}, "nobody", 404, ({ placeNotFound }) => placeNotFound],
      ["in a group that does not exist", {}, "@nope", 400, /Cluster group "nope" doesn't exist/],
      ["with a name of invalid characters", { name: "a_b" }, undefined, 400, /can only contain alphanumeric and hyphen/],
    ];
    for (const [what, change, target, status, reply] of atOnce) {
      it(`${what}, at once`, () =>
        refused(
          make(change, target ?? lab().harness.primary.name),
          status,
          typeof reply === "function" ? reply(lab().server) : reply,
        ));
    }

    it("with an alias that does not exist", () => fails(make({ image: { alias: "nope" } }), lab().server.unknownAlias));

    it("with a name that begins with a digit, by servers that do not take it", async () => {
      if (lab().server.digitFirst) {
        await make({ name: "1abc" });
        await deleteInstance(await lab().work("1abc"));
      } else {
        await refused(make({ name: "1abc" }), 400, /Name must not start with a number/);
      }
    });

    const later: [what: string, change: Parameters<typeof make>[0], reply: RegExp][] = [
      [
        "of another type than the image",
        { type: "virtual-machine" },
        /type "container" doesn't match instance type "virtual-machine"/,
      ],
      ["with a fingerprint that does not exist", { image: { fingerprint: "abcdefabcdef" } }, /Image not provided/],
      ["with an unknown key", { config: { "limits.nope": "1" } }, /Unknown configuration key: limits\.nope/],
      ["with memory that is not a size", { config: { "limits.memory": "lots" } }, /Invalid value: lots/],
      [
        "on a network that does not exist",
        { devices: { eth0: { type: "nic", network: "nope" } } },
        /Failed to load network "nope"/,
      ],
      [
        "in a pool that does not exist",
        { devices: { root: { type: "disk", path: "/", pool: "nope" } } },
        /Storage pool not found/,
      ],
      ["without a root disk", { profiles: [] }, /No root device could be found/],
    ];
    for (const [what, change, reply] of later) {
      it(`${what}, by its operation`, () => failed(make(change), reply));
    }

    it("with the key by which the other server hides its API from a guest, by its operation", async () => {
      const other = lab().server.guestApiKey === "security.devlxd" ? "security.guestapi" : "security.devlxd";
      await failed(make({ config: { [other]: "false" } }), new RegExp(`Unknown configuration key: ${other}`));
    });

    it("by an operation whose failure the wait answers in the way of the server", async () => {
      const { endpoint, deadline } = await lab().lxd();
      const lxd = await lab().lxd();
      const devices = { root: { type: "disk", path: "/", pool: "nope" } };
      const begun = await lxd.begin("POST", "/1.0/instances", {
        query: { target: lab().harness.primary.name },
        body: { name: "lost", source: { type: "none" }, devices },
      });
      const { status, body } = await exchange(
        endpoint,
        { method: "GET", path: `/1.0/operations/${begun?.id ?? ""}/wait` },
        deadline,
      );
      const { type } = JSON.parse(body.toString()) as { type: string };
      assert.deepEqual({ status, type }, lab().server.failedWait);
    });

    it("and nothing of it remains", async () => {
      assert.equal(await findInstance(await lab().work()), undefined);
      assert.equal(await findInstanceWithStateShared(await lab().work()), undefined);
      await deleteInstance(await lab().work());
    });
  });

  describe("an instance", () => {
    it("is created stopped on the named member, with its own keys and the server's", async () => {
      const { debian: files } = lab().harness;
      const fingerprint = await fingerprintOf(files);
      const image = { fingerprint, public: false, properties: {} };
      await uploadImage(await lab().lxd(), lab().project, files, image, () => undefined);
      await make({ image: { fingerprint }, config: { "user.a": "b" }, description: "desc" });
      await untilCreated(await lab().work());
      const found = await findInstance(await lab().work());
      assert.ok(found?.etag);
      const { value } = found;
      assert.deepEqual(
        [value.status, value.location, value.type, value.description, value.profiles],
        ["Stopped", lab().harness.secondary.name, "container", "desc", ["default"]],
      );
      assert.equal(value.config["user.a"], "b");
      assert.match(value.config["volatile.eth0.hwaddr"] ?? "", lab().server.hardwareAddress);
      assert.ok(value.config["volatile.uuid"]);
      assert.deepEqual(value.devices, {});
      assert.deepEqual(value.expanded_devices["root"], { type: "disk", path: "/", pool: lab().pool });
    });

    it("is not created twice", () => fails(make({}), lab().server.duplicateInstance));

    it("does not stop while it is stopped, and does not start twice", async () => {
      const work = await lab().work();
      await failed(
        work.lxd.change("PUT", "/1.0/instances/c1/state", { body: { action: "stop", timeout: 10 } }),
        /already stopped/,
      );
      await stopInstance(await lab().work(), { status: "Stopped" }, 10);
      await startInstance(await lab().work(), { status: "Stopped" });
      assert.equal(await state(), "Running");
      await failed(work.lxd.change("PUT", "/1.0/instances/c1/state", { body: { action: "start" } }), /already running/);
      await startInstance(await lab().work(), { status: "Stopped" });
      await refused(work.lxd.change("PUT", "/1.0/instances/c1/state", { body: { action: "nope" } }), 400, /Unknown action/);
    });

    it("gets an address of its bridge", async () => {
      await waitFor(await lab().work(), [{ for: "running" }, { for: "agent" }, { for: "ipv4", nic: "eth0" }]);
      const { value } = (await findInstance(await lab().work())) ?? {};
      const shown = await getInstanceWithState(await lab().work());
      assert.match(addressesOf(shown)["eth0"]?.ipv4[0] ?? "", /^10\.10\.10\./);
      const nic = shown.state?.network?.["eth0"];
      assert.ok(nic);
      assert.equal(nic.hwaddr, value?.config["volatile.eth0.hwaddr"]);
      assert.ok(nic.addresses?.some(({ family, scope }) => family === "inet6" && scope === "link"));
      const listed = await findInstanceWithStateShared(await lab().work());
      assert.ok(listed);
      assert.deepEqual([listed.status, listed.location], ["Running", lab().harness.secondary.name]);
      assert.ok(listed.state?.network?.["eth0"]);
    });

    it("freezes and resumes", async () => {
      const { lxd } = await lab().work();
      await lxd.change("PUT", "/1.0/instances/c1/state", { body: { action: "freeze" } });
      assert.equal(await state(), "Frozen");
      await startInstance(await lab().work(), { status: "Frozen" });
      assert.equal(await state(), "Running");
    });

    it("is not deleted while it runs", async () => {
      await refused(deleteInstance(await lab().work()), 400, /Instance is running/);
    });

    it("accepts new contents as a whole, and keeps the server's keys that were sent back", async () => {
      const before = await findInstance(await lab().work());
      await contents((live) => ({
        ...live,
        config: { ...live.config, "user.a": "c", "limits.memory": "512MiB" },
        description: "new",
      }));
      const after = await findInstance(await lab().work());
      assert.ok(after);
      assert.deepEqual([after.value.config["user.a"], after.value.description], ["c", "new"]);
      assert.equal(after.value.config["volatile.eth0.hwaddr"], before?.value.config["volatile.eth0.hwaddr"]);
      const { lxd } = await lab().work();
      const stale = lxd.change("PUT", "/1.0/instances/c1", { body: { ...after.value }, etag: before?.etag });
      await refused(stale, 412, /ETag doesn't match/);
    });

    it("hides the server's API from a running guest", async () => {
      const key = lab().server.guestApiKey;
      await contents((live) => ({ ...live, config: { ...live.config, [key]: "false" } }));
      assert.equal((await findInstance(await lab().work()))?.value.config[key], "false");
      await contents(({ config: { [key]: _hidden, ...config }, ...live }) => ({ ...live, config }));
    });

    it("may lose its description in a PATCH that does not repeat it", async () => {
      const { lxd } = await lab().work();
      await lxd.change("PATCH", "/1.0/instances/c1", { body: { config: { "user.z": "1" }, description: "kept" } });
      assert.equal((await findInstance(await lab().work()))?.value.description, "kept");
      await lxd.change("PATCH", "/1.0/instances/c1", { body: { config: { "user.z": "" } } });
      const { value } = (await findInstance(await lab().work())) ?? {};
      assert.deepEqual([value?.description, value?.config["user.z"]], [lab().server.keepsDescription ? "kept" : "", undefined]);
    });

    const changes: [what: string, change: (live: InstancePut) => InstancePut, reply: RegExp][] = [
      ["an unknown key", (live) => ({ ...live, config: { ...live.config, "limits.nope": "1" } }), /Unknown configuration key/],
      [
        "an invalid value",
        (live) => ({ ...live, config: { ...live.config, "limits.memory": "lots" } }),
        /Invalid config: .*lots/,
      ],
      [
        "a network that does not exist",
        (live) => ({ ...live, devices: { eth7: { type: "nic", network: "nope" } } }),
        /Failed to load network/,
      ],
      [
        "another pool for its root disk",
        (live) => ({ ...live, devices: { root: { type: "disk", path: "/", pool: "nope" } } }),
        /Cannot update root disk device pool name to "nope"/,
      ],
    ];
    for (const [what, change, reply] of changes) {
      it(`refuses ${what}`, () => failed(contents(change), reply));
    }

    it("refuses a profile that does not exist", () =>
      refused(
        contents((live) => ({ ...live, profiles: ["nope"] })),
        404,
        /Profile not found/,
      ));

    it("prevents the removal of what it uses", async () => {
      const lxd = await lab().lxd();
      await assert.rejects(deleteObject(lxd, pool(lab().pool)), /It is used by .*instance c1/);
      await assert.rejects(deleteObject(lxd, network("default", lab().bridge)), /It is used by .*instance c1/);
      const used = (await findObject(lxd, pool(lab().pool)))?.value.used_by ?? [];
      assert.ok(used.includes("/1.0/instances/c1"), used.join());
      const withoutRoot = { description: "", config: {}, devices: {} };
      await refused(
        replaceProfile(lxd, lab().project, "default", () => withoutRoot, undefined),
        500,
        /relies on this profile's root disk device/,
      );
    });

    it("that refuses its profile's change does not keep the profile from being saved", async () => {
      const lxd = await lab().lxd();
      const empty = { description: "", config: {}, devices: {} };
      await createProfile(lxd, lab().project, "p3", empty);
      await contents((live) => ({ ...live, profiles: ["default", "p3"] }));
      await assert.rejects(deleteProfile(lxd, lab().project, "p3"), /Profile is currently in use/);
      const devices = { eth5: { type: "nic", nictype: "bridged", parent: "nonexistent0", name: "eth5" } };
      const saved = replaceProfile(lxd, lab().project, "p3", () => ({ ...empty, devices }), undefined);
      await assert.rejects(saved, (error: unknown) => {
        const [refusal] = refusalsOfSavedProfile(replyOf(error));
        assert.deepEqual([refusal?.project, refusal?.name], [lab().project, "c1"]);
        assert.match(refusal?.text ?? "", /Instance: c1: .*Parent device "nonexistent0" doesn't exist/);
        return true;
      });
      const profile = await findProfile(lxd, lab().project, "p3");
      assert.deepEqual([profile?.value.devices, profile?.value.used_by], [devices, ["/1.0/instances/c1"]]);
      // The same write again is no change, and reaches no instance.
      await replaceProfile(lxd, lab().project, "p3", () => ({ ...empty, devices }), undefined);
      const removal = replaceProfile(lxd, lab().project, "p3", () => empty, undefined);
      const { removalOfUnstartedNic: failure } = lab().server;
      await (failure === undefined ? removal : assert.rejects(removal, (error: unknown) => failure.test(replyOf(error))));
      assert.deepEqual((await findProfile(lxd, lab().project, "p3"))?.value.devices, {});
      await contents((live) => ({ ...live, profiles: ["default"] }));
      await deleteProfile(lxd, lab().project, "p3");
    });

    it("is listed by its address, or with its contents and without its state", async () => {
      const lxd = await lab().lxd();
      const names = await lxd.get("/1.0/instances", z.array(z.string()), { project: lab().project });
      assert.ok(names.includes("/1.0/instances/c1"), names.join());
      const shown = await lxd.getListShared("/1.0/instances", instanceSchema, (each) => each, {
        project: lab().project,
        recursion: 1,
      });
      const instance = shown.find(({ name }) => name === "c1");
      assert.equal(instance?.state, undefined);
      assert.deepEqual(instance?.config, (await findInstance(await lab().work()))?.value.config);
    });

    it("reports another time for each start, and the same until then", async () => {
      const startedAt = async (): Promise<string> => (await findInstance(await lab().work()))?.value.last_used_at ?? "";
      const first = await startedAt();
      await contents((live) => ({ ...live, config: { ...live.config, "user.x": "changed" } }));
      assert.equal(await startedAt(), first);
      await stopInstance(await lab().work(), { status: "Running" }, 60);
      await startInstance(await lab().work(), { status: "Stopped" });
      assert.notEqual(await startedAt(), first);
    });

    it("accepts changes of its own and of its profiles at once, one after the other", async () => {
      const lxd = await lab().lxd();
      const names = ["p4", "p5"];
      const put = async (name: string, value: string) => {
        const body = { description: "", config: { "user.x": value }, devices: {} };
        await replaceProfile(lxd, lab().project, name, () => body, await findProfile(lxd, lab().project, name));
      };
      for (const name of names) {
        await createProfile(lxd, lab().project, name, { description: "", config: {}, devices: {} });
      }
      await contents((live) => ({ ...live, profiles: ["default", ...names] }));
      for (const value of ["1", "2", "3"]) {
        const own = contents((live) => ({ ...live, config: { ...live.config, "user.y": value } }));
        await Promise.all([own, ...names.map((name) => put(name, value))]);
      }
      assert.equal((await findInstance(await lab().work()))?.value.config["user.y"], "3");
      await contents((live) => ({ ...live, profiles: ["default"] }));
      await Promise.all(names.map((name) => deleteProfile(lxd, lab().project, name)));
    });

    it("is moved while it is stopped, and only to another existing member", async () => {
      const { primary, secondary } = lab().harness;
      await stopInstance(await lab().work(), { status: "Running" }, 60);
      assert.equal(await state(), "Stopped");
      await refused(moveInstance(await lab().work(), "nobody"), 404, lab().server.placeNotFound);
      await fails(moveInstance(await lab().work(), secondary.name), lab().server.moveToSameMember);
      const before = await findInstance(await lab().work());
      await moveInstance(await lab().work(), primary.name);
      const after = await findInstance(await lab().work());
      assert.ok(after);
      assert.equal(after.value.location, primary.name);
      assert.equal(after.value.config["volatile.eth0.hwaddr"], before?.value.config["volatile.eth0.hwaddr"]);
      await moveInstance(await lab().work(), secondary.name);
    });

    it("is created on a member that LXD chooses if none is named", async () => {
      const { primary, secondary } = lab().harness;
      await (await lab().lxd()).change("POST", "/1.0/instances", {
        body: { name: "c5", source: { type: "image", alias: lab().alias } },
      });
      const work = await lab().work("c5");
      assert.ok([primary.name, secondary.name].includes((await findInstance(work))?.value.location ?? ""));
      await deleteInstance(work);
    });

    it("is stopped by force and deleted", async () => {
      await make({ name: "c2" }, lab().harness.primary.name);
      const work = await lab().work("c2");
      await startInstance(work, { status: "Stopped" });
      await forceStopInstance(work);
      await deleteInstance(work);
      assert.equal(await findInstance(work), undefined);
    });

    it("on a bridge that its member does not have is created, but does not start", async () => {
      const devices = { eth0: { type: "nic", nictype: "bridged", parent: "nope" } };
      await make({ name: "c3", devices }, lab().harness.primary.name);
      const work = await lab().work("c3");
      await failed(startInstance(work, { status: "Stopped" }), /Parent device "nope" doesn't exist/);
      await deleteInstance(work);
    });
  });
}
