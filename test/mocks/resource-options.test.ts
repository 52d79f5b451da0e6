import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { LxdCluster, VmGroup, VmProfiles } from "../../components/index";
import { LxdProfile } from "../../provider/index";
import { type Registered, record } from "./program";

class OtherProvider extends pulumi.ProviderResource {}

const connection = { host: "192.168.1.102" };
const cluster = { endpoints: [connection] };

/** Each component, with what all of its kinds of children need. */
const COMPONENTS: Readonly<Record<string, (name: string, opts: pulumi.ComponentResourceOptions) => pulumi.ComponentResource>> = {
  LxdCluster: (name, opts) =>
    new LxdCluster(
      name,
      {
        hosts: [
          { name: "bcn2", address: "192.168.1.102", connection },
          { name: "bcn1", address: "192.168.1.101", connection: { host: "192.168.1.101" } },
        ],
        pools: { default: { driver: "dir" } },
        networks: { lxdbr0: {} },
        images: { ubuntu: { source: { server: "https://cloud-images.ubuntu.com/releases/", alias: "24.04" } } },
      },
      opts,
    ),
  VmProfiles: (name, opts) => new VmProfiles(name, { cluster, gpu: {} }, opts),
  VmGroup: (name, opts) =>
    new VmGroup(name, { cluster, vms: [{ name: "a", image: { alias: "debian-12" }, users: [{ name: "ops" }] }] }, opts),
};

/** What a component's own resource and its children are registered with. */
async function registered(
  make: (name: string, opts: pulumi.ComponentResourceOptions) => pulumi.ComponentResource,
  opts: () => pulumi.ComponentResourceOptions,
): Promise<{ component: Registered; children: Registered[]; after: Registered }> {
  const { resources, find } = await record("test", () => {
    const component = make("it", opts());
    new LxdProfile("after", { cluster, name: "after" }, { dependsOn: [component] });
  });
  const component = resources.find(({ name }) => name === "it");
  assert.ok(component);
  return { component, children: resources.filter(({ parent }) => parent === component.id), after: find("LxdProfile after") };
}

for (const [kind, make] of Object.entries(COMPONENTS)) {
  describe(`The resource options of ${kind}`, () => {
    it("dependsOn: no child is made before, whatever form it is given in", async () => {
      for (const form of [
        (one: pulumi.Resource) => [one],
        (one: pulumi.Resource) => one,
        (one: pulumi.Resource) => pulumi.output([one]),
        (one: pulumi.Resource) => Promise.resolve(one),
      ]) {
        const { children } = await registered(make, () => ({
          dependsOn: form(new LxdProfile("before", { cluster, name: "before" })),
        }));
        assert.ok(children.length > 0);
        for (const { id, dependsOn } of children) {
          assert.ok(dependsOn.includes("LxdProfile before"), id);
        }
      }
    });

    it("what depends on it waits for all children", async () => {
      const { children, after } = await registered(make, () => ({}));
      assert.deepEqual(after.dependsOn, children.map(({ id }) => id).sort());
    });

    it("protect holds for the children", async () => {
      const { children } = await registered(make, () => ({ protect: true }));
      for (const { id, protect } of children) {
        assert.equal(protect, true, id);
      }
      const { children: others } = await registered(make, () => ({}));
      assert.ok(others.every(({ protect }) => !protect));
    });

    it("deletedWith and retainOnDelete are its own, and no child says otherwise: the engine lets children inherit them", async () => {
      const { component, children } = await registered(make, () => ({
        deletedWith: new LxdProfile("before", { cluster, name: "before" }),
        retainOnDelete: true,
      }));
      assert.deepEqual([component.deletedWith, component.retainOnDelete], ["LxdProfile before", true]);
      for (const { id, deletedWith, retainOnDelete } of children) {
        // A user goes with its VM, and so with whatever that goes with.
        assert.equal(deletedWith, id.startsWith("VmUser ") ? "LxdVm it-a" : undefined, id);
        assert.equal(retainOnDelete, undefined, id);
      }
    });

    it("aliases are its own, and the children are named after it: the engine then knows their former names", async () => {
      const { component, children } = await registered(make, () => ({ aliases: [{ name: "former" }] }));
      assert.deepEqual(component.aliases, ["former"]);
      for (const { id, name } of children) {
        assert.match(name, /^it-/, id);
      }
    });

    it("transformations see every child", async () => {
      const seen: string[] = [];
      const { children } = await registered(make, () => ({
        transformations: [
          ({ name, props, opts }) => {
            seen.push(name);
            return { props: name === "it" ? props : { ...props, timeouts: { read: 7 } }, opts };
          },
        ],
      }));
      assert.deepEqual([...new Set(seen)].sort(), [...new Set(["it", ...children.map(({ name }) => name)])].sort());
      for (const { id, inputs } of children) {
        assert.deepEqual(inputs["timeouts"], { read: 7 }, id);
      }
    });

    it("providers are those of the children", async () => {
      const found: unknown[] = [];
      await registered(make, () => {
        const own = new OtherProvider("other", "own");
        return {
          providers: { other: own },
          transformations: [
            ({ resource, props, opts }) => {
              found.push(() => resource.getProvider("other:index:Thing") === own);
              return { props, opts };
            },
          ],
        };
      });
      assert.ok(found.length > 1);
      assert.ok(found.every((holds) => (holds as () => boolean)()));
    });
  });
}
