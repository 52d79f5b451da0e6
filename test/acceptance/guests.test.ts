import assert from "node:assert/strict";
import { provider } from "../../provider/entry";
import { bareHosts } from "../support/bare-hosts";
import { figure } from "../support/figure";
import { checkedInputs, createResource, isInLab, isSample, type Made } from "../support/real-lab";
import { runInGuest } from "./support/guest-commands";

/** File where each document writes the name of its type. */
const TOOK = "/run/took";

const config = (kind: string): string => `write_files:\n  - path: ${TOOK}\n    content: ${kind}\n`;
const script = (kind: string): string => `#!/bin/sh\nprintf %s ${kind} > ${TOOK}\n`;
const indented = (text: string): string => text.replace(/^/gm, "    ");

/** A document of each type that cloud-init identifies by its first line. */
const KINDS: Readonly<Record<string, (kind: string) => string>> = {
  "cloud-config": (kind) => `#cloud-config\n${config(kind)}`,
  "cloud-config-archive": (kind) =>
    `#cloud-config-archive\n- type: text/cloud-config\n  content: |\n${indented(config("other"))}\n- |\n${indented(script(kind))}\n`,
  "cloud-config-jsonp": (kind) =>
    `#cloud-config-jsonp\n${JSON.stringify([{ op: "add", path: "/write_files", value: [{ path: TOOK, content: kind }] }])}\n`,
  script,
  "cloud-boothook": (kind) => `#cloud-boothook\n${script(kind)}`,
  include: (kind) => `#include\nfile:///root/${kind}\n`,
  "include-once": (kind) => `#include-once\nfile:///root/${kind}\n`,
  "part-handler": (kind) =>
    `#part-handler\ndef list_types():\n    return ["text/x-took"]\ndef handle_part(data, ctype, filename, payload):\n` +
    `    if ctype == "__begin__":\n        open("${TOOK}", "w").write("${kind}")\n`,
  jinja: (kind) => `## template: jinja\n#cloud-config\n${config(`{{ "${kind}" }}`)}`,
  multipart: (kind) =>
    'Content-Type: multipart/mixed; boundary="part"\nMIME-Version: 1.0\n\n' +
    `--part\nContent-Type: text/x-shellscript; charset="us-ascii"\n\n${script(kind)}\n--part--\n`,
};

/** What other servers than Debian 12's have to pass on, except by night. */
const SAMPLE = new Set(["cloud-config", "jinja"]);

/** All boot stages in a running guest: runs cloud-init with the current user data of LXD. */
const BOOT_AGAIN =
  "cloud-init clean --logs && cloud-init init --local && cloud-init init && cloud-init modules --mode=config && cloud-init modules --mode=final";

describe("a guest on real LXD", () => {
  const hosts = bareHosts(["bcn2"]);
  const { to, node, imageFiles, onHost } = hosts;
  let guest: Made;

  const cluster = (): object => ({ endpoints: [to("bcn2")] });
  const inGuest = (line: string): Promise<string> => runInGuest(hosts.lab, "docs", "sh", "-c", line);
  /** A key of an instance's config, as the server's client prints it. */
  const configOf = async (instance: string, key: string): Promise<string> =>
    (await hosts.lab.hostExec("bcn2", [hosts.lab.flavour.client, "config", "get", instance, key])).stdout;
  const vm = (userData: string): object => ({
    ...{ cluster: cluster(), name: "docs", instanceType: "container", image: { alias: "debian-12" } },
    ...{ rootDisk: { pool: "default" }, cloudInit: { userData }, waitFor: [{ for: "cloud-init" }] },
  });

  before(async () => {
    await createResource("LxdNode", node("bcn2"));
    await createResource("LxdStoragePool", { cluster: cluster(), name: "default", driver: "dir" });
    await createResource("LxdImage", { cluster: cluster(), ...(await imageFiles()), aliases: ["debian-12"] });
    guest = await createResource("LxdVm", vm("#cloud-config\n{}\n"));
    await writeIncluded();
  });

  /** Writes the files that the documents of two types refer to. */
  async function writeIncluded(): Promise<void> {
    for (const kind of ["include", "include-once"]) {
      await inGuest(`printf %s ${JSON.stringify(`#cloud-config\n${config(kind)}`).replaceAll("\\n", "\n")} > /root/${kind}`);
    }
  }

  /**
   * Gives the guest this document, and lets cloud-init process it. Incus writes the seed of the lab's image only when it
   * creates an instance.
   */
  async function give(text: string): Promise<void> {
    if (hosts.lab.flavour.server === "lxd") {
      const { outs } = await provider("LxdVm").update(guest.id, guest.outs, await checkedInputs("LxdVm", vm(text)));
      guest = { ...guest, outs };
      await inGuest(`rm -f ${TOOK}; ${BOOT_AGAIN}`);
      return;
    }
    await provider("LxdVm").delete(guest.id, guest.outs);
    guest = await createResource("LxdVm", { ...vm(text), waitFor: [] });
    await inGuest("cloud-init status --wait || true");
    if (text.startsWith("#include")) {
      await writeIncluded(); // the first boot did not have these files
      await inGuest(BOOT_AGAIN);
    }
  }

  after(() => {
    if (isInLab) {
      figure("types of user data that cloud-init processed", Object.keys(KINDS).length);
    }
  });

  describe("passes user data of every type unchanged, and cloud-init processes it:", () => {
    // Each boots a guest of its own on Incus.
    for (const [kind, document] of Object.entries(KINDS).filter(([each]) => !isSample || SAMPLE.has(each))) {
      it(kind, async () => {
        const text = document(kind);
        await give(text);
        assert.equal(await configOf("docs", "cloud-init.user-data"), `${text}\n`);
        assert.equal((await inGuest("cloud-init query userdata")).trimEnd(), text.trimEnd());
        assert.equal(await inGuest(`cat ${TOOK} 2>/dev/null || tail -40 /var/log/cloud-init.log`), kind);
        const { v1 } = JSON.parse(await inGuest("cat /run/cloud-init/result.json")) as {
          v1: { datasource: string; errors: string[] };
        };
        assert.deepEqual(v1.errors, []);
        assert.match(v1.datasource, hosts.lab.flavour.server === "lxd" ? /LXD/ : /NoCloud/);
        const { inputs: seen } = await provider("LxdVm").read(guest.id, guest.outs);
        assert.deepEqual(seen?.["cloudInit"], { userData: text });
      });
    }
  });

  it("waits for and finds its address on a physical NIC, whose MAC address LXD does not report", async () => {
    await onHost("bcn2", "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1");
    await onHost("bcn2", "ip", "link", "set", "lan1", "up"); // without a carrier the guest gives it no address
    const networkConfig = JSON.stringify({ version: 2, ethernets: { inside: { addresses: ["192.0.2.50/24"] } } });
    const { outs } = await createResource("LxdVm", {
      ...{ cluster: cluster(), name: "nic", instanceType: "container", image: { alias: "debian-12" } },
      rootDisk: { pool: "default" },
      devices: { lan: { type: "nic", nictype: "physical", parent: "lan0", name: "inside" } },
      cloudInit: { networkConfig },
      waitFor: [{ for: "ipv4", nic: "lan" }],
    });
    assert.equal(await configOf("nic", "volatile.lan.hwaddr"), "\n");
    assert.deepEqual((outs["addresses"] as Record<string, { ipv4: string[] }>)["lan"]?.ipv4, ["192.0.2.50"]);
  });
});
