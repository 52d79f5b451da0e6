import assert from "node:assert/strict";
import { withInstanceLock, withInstanceLocks } from "../../../provider/lxd/instances/instance-lock";
import { ApiServer } from "./api-server";

describe("requests that LXD locks instances for", () => {
  let server: ApiServer;
  let running: number;
  let most: number;

  before(async () => {
    server = await ApiServer.start();
  });
  after(() => server.stop());
  beforeEach(() => {
    running = 0;
    most = 0;
  });

  const work = async (): Promise<void> => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setTimeout(resolve, 20));
    running -= 1;
  };

  it("run one after the other, in whatever order the instances are named", async () => {
    const lxd = server.client();
    const [a, b] = ["/1.0/instances/a", "/1.0/instances/b?project=shop"] as const;
    await Promise.all([
      withInstanceLocks(lxd, [a, b], work),
      withInstanceLocks(lxd, [b, a], work),
      withInstanceLock({ lxd, project: "shop", name: "b" }, work),
      withInstanceLocks(lxd, [b], work),
    ]);
    assert.equal(most, 1);
  });

  it("run concurrently for different instances", async () => {
    const lxd = server.client();
    await Promise.all([
      withInstanceLock({ lxd, project: "default", name: "a" }, work),
      withInstanceLock({ lxd, project: "shop", name: "a" }, work),
      withInstanceLocks(lxd, ["/1.0/profiles/a"], work),
    ]);
    assert.equal(most, 3);
  });

  it("are not made when the lock does not come in time", async () => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const first = withInstanceLock({ lxd: server.client(), project: "shop", name: "a" }, () => held);
    await assert.rejects(
      withInstanceLocks(server.client(0.1), ["/1.0/instances/a?project=shop"], work),
      /waiting for other work on instance a \(project shop\) on root@bcn2 to end/,
    );
    release();
    await first;
    assert.equal(most, 0);
  });

  it("release the lock when they fail", async () => {
    const lxd = server.client();
    const which = { lxd, project: "default", name: "a" };
    await assert.rejects(
      withInstanceLock(which, () => Promise.reject(new Error("refused"))),
      /refused/,
    );
    await withInstanceLock(which, work);
    assert.equal(most, 1);
  });

  it("do not lock idle instances while they wait for a busy one", async () => {
    const lxd = server.client();
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const order: string[] = [];
    const busy = withInstanceLock({ lxd, project: "default", name: "busy" }, () => held);
    const profile = withInstanceLocks(
      lxd,
      ["/1.0/instances/idle", "/1.0/instances/busy"],
      async () => void order.push("profile"),
    );
    await withInstanceLock({ lxd, project: "default", name: "idle" }, async () => void order.push("idle"));
    release();
    await Promise.all([busy, profile]);
    assert.deepEqual(order, ["idle", "profile"]);
  });

  it("do not deadlock when an instance is named twice", async () => {
    await withInstanceLocks(server.client(5), ["/1.0/instances/twice", "/1.0/instances/twice"], work);
    assert.equal(most, 1);
  });
});
