import assert from "node:assert/strict";
import { hostFileLifecycle, vmFileLifecycle } from "../../../provider/resources/machine-file";
import { hostServiceLifecycle, vmServiceLifecycle } from "../../../provider/resources/machine-service";
import type { Managed } from "../../unit/resources/simulated-cluster";
import type { Subject } from "./harness";

const PAIR = { vm: vmServiceLifecycle, host: hostServiceLifecycle };
const FILES = { vm: vmFileLifecycle, host: hostFileLifecycle };

const INSTALL = "[Install]\nWantedBy=multi-user.target\n";
const RUNS = `[Service]\nExecStart=/bin/sleep infinity\n${INSTALL}`;
const FAILS = `[Service]\nType=oneshot\nExecStart=/bin/sh -c "echo no such database >&2; exit 3"\n${INSTALL}`;
const ENDS = `[Service]\nType=oneshot\nExecStart=/bin/true\n${INSTALL}`;

/** Services. */
export function servicesContract({ manage, args, output }: Subject): void {
  const service = (own: object = {}): object => args({ unit: "contract", ...own });
  /** States of a unit, apart from the library. */
  const shown = async (unit = "contract.service"): Promise<string> => {
    const lines = await output("systemctl", "show", "--property=ActiveState,LoadState,UnitFileState", "--", unit);
    return lines
      .split("\n")
      .sort()
      .map((line) => line.slice(line.indexOf("=") + 1))
      .join(" ");
  };
  const pid = (): Promise<string> => output("systemctl", "show", "--property=MainPID", "--value", "contract.service");

  const files = new Map<string, Managed>();
  const services: Managed[] = [];
  /** Writes the file of a unit, as a program would do it. */
  const write = async (content: string, path = "/etc/systemd/system/contract.service"): Promise<void> => {
    const file = files.get(path) ?? manage(FILES, path);
    files.set(path, file);
    await file.up(args({ path, content, onChange: ["systemctl", "daemon-reload"] }));
  };
  const start = (): Managed => {
    const made = manage(PAIR);
    services.push(made);
    return made;
  };

  afterEach(async () => {
    for (const unit of ["contract.service", "contract@1.service"]) {
      await output("systemctl", "unmask", "--runtime", "--", unit);
      await output("systemctl", "unmask", "--", unit);
    }
    for (const each of services.splice(0).filter(({ state }) => state !== undefined)) {
      const unit = String(each.inState("unit"));
      await output("systemctl", "stop", "--", unit);
      await output("systemctl", "disable", "--", unit);
      await each.destroy();
    }
    for (const file of files.values()) {
      await file.destroy();
    }
    files.clear();
    await output("systemctl", "daemon-reload");
  });

  it("is enabled and started, repaired, disabled and stopped, and left by its removal", async () => {
    await write(RUNS);
    const it = start();
    assert.equal(await it.up(service({ enabled: true, active: true })), "created");
    assert.equal(await shown(), "active loaded enabled");
    assert.equal(await it.preview(service({ enabled: true, active: true })), "same");
    await output("systemctl", "stop", "contract");
    await output("systemctl", "disable", "contract");
    assert.equal(await it.up(service({ enabled: true, active: true })), "updated");
    assert.equal(await shown(), "active loaded enabled");
    assert.equal(await it.up(service({ enabled: false, active: false })), "updated");
    assert.equal(await shown(), "inactive loaded disabled");
    await it.up(service({ active: true }));
    const other = manage(PAIR);
    await other.up(service({ active: true }));
    await other.destroy();
    assert.equal(await shown(), "active loaded disabled");
  });

  it("is restarted when its triggers change, and for nothing else", async () => {
    await write(RUNS);
    const it = start();
    await it.up(service({ active: true, triggers: [{ hash: "a" }] }));
    const first = await pid();
    await it.up(service({ active: true, enabled: true, triggers: [{ hash: "a" }] }));
    assert.equal(await pid(), first);
    assert.equal(await it.up(service({ active: true, enabled: true, triggers: [{ hash: "b" }] })), "updated");
    assert.notEqual(await pid(), first);
    assert.equal(await shown(), "active loaded enabled");
  });

  it("is unfinished when it fails to start, with the end of its log, until it is corrected", async () => {
    await write(FAILS);
    const it = start();
    await assert.rejects(
      it.up(service({ active: true })),
      /Unit "contract\.service" .* is not finished: systemctl on .* failed with exit code 1[^]*: systemctl status contract\.service\. The end of its log:[^]*\nno such database\n/,
    );
    assert.equal(await it.preview(service({ active: true })), "updated");
    assert.equal(it.inState("activeState"), "failed");
    await write(RUNS);
    assert.equal(await it.up(service({ active: true })), "updated");
    assert.equal(await shown(), "active loaded disabled");
  });

  it("cannot stay active when it runs once", async () => {
    await write(ENDS);
    await assert.rejects(start().up(service({ active: true })), /it ended without an error.*RemainAfterExit=yes/);
  });

  it("is masked and unmasked", async () => {
    await write(RUNS, "/usr/lib/systemd/system/contract.service");
    const it = start();
    await it.up(service({ enabled: true, active: true }));
    const off = { enabled: false, active: false, masked: true };
    assert.equal(await it.up(service(off)), "updated");
    assert.equal(await shown(), "inactive masked masked");
    assert.equal(await it.preview(service(off)), "same");
    await assert.rejects(manage(PAIR).up(service({ active: true })), /it is masked.*Set masked: false/);
    const on = { enabled: true, active: true, masked: false };
    assert.equal(await it.up(service(on)), "updated");
    assert.equal(await shown(), "active loaded enabled");
    await output("systemctl", "mask", "--runtime", "contract");
    assert.equal(await shown(), "active masked masked-runtime");
    assert.equal(await it.up(service(on)), "updated");
    assert.equal(await shown(), "active loaded enabled");
  });

  it("is not masked where its own file is", async () => {
    await write(RUNS);
    await assert.rejects(start().up(service({ masked: true })), /contract\.service, where the mask would be, exists/);
  });

  it("may be an instance of a template", async () => {
    await write(RUNS, "/etc/systemd/system/contract@.service");
    const it = start();
    await it.up(service({ unit: "contract@1", enabled: true, active: true }));
    assert.equal(await shown("contract@1.service"), "active loaded enabled");
    assert.equal(await it.preview(service({ unit: "contract@1", enabled: true, active: true })), "same");
    await assert.rejects(start().up(service({ unit: "nocontract@1", active: true })), /There is no unit "nocontract@1\.service"/);
  });

  it("is refused when it is static, an alias, or not there", async () => {
    await write("[Service]\nExecStart=/bin/sleep infinity\n");
    await assert.rejects(manage(PAIR).up(service({ enabled: true })), /cannot be enabled or disabled \(static\)/);
    await assert.rejects(
      manage(PAIR).up(service({ unit: "nocontract", active: true })),
      /There is no unit "nocontract\.service"/,
    );
    await write(`${RUNS}Alias=contract-alias.service\n`);
    await start().up(service({ enabled: true }));
    await assert.rejects(
      manage(PAIR).up(service({ unit: "contract-alias", active: true })),
      /it is another name of contract\.service/,
    );
  });
}
