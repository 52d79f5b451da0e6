import { machineContract } from "../contract/machines/machine-contract";
import { bareHosts } from "../support/bare-hosts";
import { createResource } from "../support/real-lab";
import { tryInGuest } from "./support/guest-commands";

describe("machines of real hosts", () => {
  const hosts = bareHosts(["bcn2"]);
  const { to, node, imageFiles } = hosts;
  const cluster = (): object => ({ endpoints: [to("bcn2")] });

  before(async () => {
    await createResource("LxdNode", node("bcn2"));
    await createResource("LxdStoragePool", { cluster: cluster(), name: "default", driver: "dir" });
    await createResource("LxdImage", { cluster: cluster(), ...(await imageFiles()), aliases: ["debian"] });
    await createResource("LxdVm", {
      ...{ cluster: cluster(), name: "web1", instanceType: "container", image: { alias: "debian" } },
      rootDisk: { pool: "default" },
    });
  });

  machineContract("a real guest", "vm", () => ({
    where: { cluster: cluster(), instance: "web1" },
    run: (...argv) => tryInGuest(hosts.lab, "web1", argv),
  }));

  machineContract("a real host", "host", () => ({
    where: { connection: to("bcn2") },
    run: (...argv) => hosts.lab.hostExec("bcn2", argv),
  }));
});
