/**
 * The library's requirements of LXD, in one suite that simulated and real hosts must both pass: every call of
 * provider/lxd, and every error that it relies on. What differs between servers is in servers.ts. The tests run in order:
 * each part uses the objects of the one before.
 */
import { disconnectAll } from "../../../provider/transport/pool";
import { clusterGroupsContract } from "./cluster-groups";
import { evacuationContract } from "./evacuation";
import { formingContract } from "./forming";
import { guestContract } from "./guest";
import { ContractLab, type LxdHarness } from "./harness";
import { imageUpdatesContract } from "./image-updates";
import { instancesContract } from "./instances";
import { movesContract } from "./moves";
import { namesContract } from "./names";
import { networkAclsContract } from "./network-acls";
import { networkForwardsContract } from "./network-forwards";
import { operationsContract } from "./operations";
import { partingContract } from "./parting";
import { placementContract } from "./placement";
import { poolsAndNetworksContract } from "./pools-and-networks";
import { profilesAndImagesContract } from "./profiles-and-images";
import { projectsContract } from "./projects";
import { Report } from "./report";
import { serverConfigContract } from "./server-config";
import { trustStoreContract } from "./trust-store";
import { volumesContract } from "./volumes";
import { wipingContract } from "./wiping";

/** Adds the suite for one type of hosts. */
export function lxdContract(name: string, makeHarness: (context: Mocha.Context) => Promise<LxdHarness>): void {
  describe(`the server on ${name}`, function () {
    this.bail(process.env["CONTRACT_BAIL"] !== "0"); // later tests would fail as a consequence
    let lab: ContractLab | undefined;
    const current = (): ContractLab => {
      if (lab === undefined) {
        throw new Error("the hosts did not start");
      }
      return lab;
    };

    before(async function () {
      lab = new ContractLab(await makeHarness(this));
    });

    const report = new Report();
    afterEach(function () {
      report.count(this.currentTest);
    });

    after(async () => {
      if (lab !== undefined) {
        report.write(lab);
      }
      await disconnectAll();
      await lab?.harness.stop();
    });

    formingContract(current);
    clusterGroupsContract(current);
    serverConfigContract(current);
    poolsAndNetworksContract(current);
    volumesContract(current);
    networkAclsContract(current);
    networkForwardsContract(current);
    projectsContract(current);
    trustStoreContract(current);
    profilesAndImagesContract(current);
    imageUpdatesContract(current);
    namesContract(current);
    instancesContract(current);
    guestContract(current);
    movesContract(current);
    evacuationContract(current);
    placementContract(current);
    operationsContract(current);
    partingContract(current);
    wipingContract(current);
  });
}
