import { createInstance } from "../../../provider/lxd/instances/creation";
import type { ContractLab } from "./harness";

type Body = Parameters<typeof createInstance>[1];

/** What a case changes in its container. */
export type ContainerChange = Partial<Body>;

/** Makes a stopped container of the suite's image on a member. */
export async function makeContainer(lab: ContractLab, name: string, change: ContainerChange, target: string): Promise<void> {
  const body: Body = {
    ...{ type: "container", image: { alias: lab.alias }, profiles: ["default"], description: "" },
    ...{ ephemeral: false, config: {}, devices: {} },
    ...change,
  };
  await createInstance(await lab.work(name), body, target, () => lab.lxd());
}
