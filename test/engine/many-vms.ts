import * as pulumi from "@pulumi/pulumi";
import type { SimulatedLab } from "../../lab/simulated";
import { LxdVm } from "../../provider/index";

/** A program with so many VMs on a simulated host that has LXD and the image "debian". */
export function manyVms(lab: SimulatedLab, count: number): () => void {
  // The key by reference, which is the documented way; by value it would be a secret that the engine encrypts for every resource.
  const endpoints = lab.hosts.map(({ connection: { host, port, user, hostKey } }) => {
    return { host, port, user, hostKey, privateKeyPath: lab.privateKeyPath };
  });
  return () => {
    const cluster = { endpoints };
    for (let index = 1; index <= count; index++) {
      new LxdVm(`vm${index}`, {
        cluster,
        name: `vm${index}`,
        instanceType: "container",
        image: { alias: "debian" },
        profiles: [],
        devices: { root: { type: "disk", path: "/", pool: "default" } },
        running: false,
      });
    }
  };
}

/** Does nothing, in as few words as the engine lets it: what remains is the engine's own time. */
const NOTHING = `exports.handler = () => ({
  check: async (_olds, news) => ({ inputs: news, failures: [] }),
  diff: async () => ({ changes: false, replaces: [] }),
  create: async (inputs) => ({ id: inputs.name, outs: inputs }),
  read: async (id, props) => ({ id, props, inputs: props }),
  update: async (_id, _olds, news) => ({ outs: news }),
  delete: async () => undefined,
});
`;

class Nothing extends pulumi.CustomResource {
  constructor(name: string, properties: object) {
    super("pulumi-nodejs:dynamic/lxd:Nothing", name, { ...properties, name, __provider: NOTHING });
  }
}

/** So many resources that do nothing, with these properties each. */
export function manyNothings(count: number, properties: object): () => void {
  return () => {
    for (let index = 1; index <= count; index++) {
      new Nothing(`nothing${index}`, properties);
    }
  };
}
