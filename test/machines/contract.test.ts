import { join } from "node:path";
import { MachineLab } from "../../lab/machines";
import { skip } from "../../tools/test/skip";
import { vmsContract } from "../contract/vms/vms-contract";
import { isInLab } from "../support/real-lab";

vmsContract("a real host", true, async (context) => {
  if (!isInLab) {
    skip(context, "not in the workstation of machines: npx tsx lab/machines/cli.ts --vm run -- npx mocha ...");
  }
  const { lab, machines } = await MachineLab.attach();
  const [machine] = machines;
  if (machine === undefined) {
    throw new Error("the lab has no machine");
  }
  const { spec, hostKey } = machine;
  await machine.run("mkdir -p /srv/share");
  return {
    connection: { host: spec.address, hostKey, privateKeyPath: join(lab.home, ".ssh", "id_ed25519") },
    ...{ name: "v1", directory: "/srv/share" },
    killAgent: async () => {
      // The command ends with the agent that runs it.
      await machine.exec(["lxc", "exec", "v1", "--", "sh", "-c", "kill -KILL $(pidof lxd-agent)"]);
    },
    stop: () => Promise.resolve(),
  };
});
