/** The two machines that the kinds on a machine are tested on: a simulated guest and a simulated host. */
import type { MemoryFiles } from "../../../lab/simulated/memory-files";
import { connectionSchema } from "../../../provider/transport/connection";
import type { SimulatedCluster } from "./simulated-cluster";

interface SimulatedMachine {
  /** How a resource reaches it, once {@link startWithInstance} has run. */
  where(started: SimulatedCluster): object;
  files(started: SimulatedCluster): MemoryFiles;
}

/** By the prefix of the kinds. */
export const MACHINES: Readonly<Record<"Vm" | "Host", SimulatedMachine>> = {
  Vm: {
    where: ({ cluster }) => ({ cluster, instance: "web1" }),
    files: ({ lab }) => lab.guestFiles("bcn2", "web1"),
  },
  Host: {
    where: ({ lab }) => ({ connection: connectionSchema.parse(lab.host("bcn2").connection) }),
    files: ({ lab }) => lab.host("bcn2").files,
  },
};
