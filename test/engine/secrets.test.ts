import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import * as pulumi from "@pulumi/pulumi";
import { SimulatedLab } from "../../lab/simulated";
import { figure } from "../support/figure";
import { ProcessWatch, SecretSearch } from "../support/secret-search";
import { TWO_HOSTS } from "../support/two-hosts";
import { clusterProgram } from "./cluster-program";
import { EngineStack, type Run } from "./workspace";

/** Found in each place that is searched, or the search of that place shows nothing. */
const CANARY = `canary-${randomBytes(6).toString("hex")}`;

/** What Pulumi's own engine and SDK write of every resource when they are asked to log all. */
const OF_PULUMI = /(Unm|M)arshaling property for RPC\[|Planner decided to |RegisterResource RPC finished: /;

const unique = (name: string): string => `${name}-${randomBytes(9).toString("hex")}`;

describe("the secrets of a run", () => {
  const secrets = {
    password: unique("ssh"),
    "cloud-init": unique("cloud"),
    "a value of a profile": unique("profile"),
    "a value of the stack's config": unique("config"),
    "a password hash": `$6$saltsalt$${randomBytes(40).toString("hex")}`,
  };
  let lab: SimulatedLab;
  let stack: EngineStack;
  let search: SecretSearch;
  let processes: ProcessWatch;
  let plain: Run;
  let logged: Run;
  let places = 0;

  before(async () => {
    const { password } = secrets;
    lab = await SimulatedLab.start({
      hosts: TWO_HOSTS.map((host) => ({ ...host, password })),
    });
    stack = await EngineStack.open();
    const tokens: string[] = [];
    lab.faults.add({
      when: { method: "POST", path: /^\/1\.0\/cluster\/members/ },
      effect: {
        answer: (response, real) => {
          const { secret } = (JSON.parse(real) as { metadata: { metadata: { secret: string } } }).metadata.metadata;
          tokens.push(secret, Buffer.from(`"secret":"${secret}"`).toString("base64").slice(4, -4));
          response.writeHead(202, { "content-type": "application/json" }).end(real);
        },
      },
    });
    await stack.setSecret("note", secrets["a value of the stack's config"]);
    stack.define(() => {
      void pulumi.log.info(CANARY);
      clusterProgram(lab, {
        connection: { password },
        profile: { description: CANARY, config: { "user.key": secrets["a value of a profile"] } },
        vms: {
          web1: {
            cloudInit: { userData: `#cloud-config\npassword: ${secrets["cloud-init"]}\n` },
            config: { "user.note": new pulumi.Config().requireSecret("note") },
          },
        },
        user: { passwordHash: secrets["a password hash"] },
      })();
    });
    const planted = spawn("sleep", ["600"], { argv0: CANARY, stdio: "ignore" });
    processes = new ProcessWatch();
    plain = await stack.up();
    lab.faults.clear();
    await stack.destroy();
    logged = await stack.up({ debug: true });
    processes.stop();
    planted.kill();
    assert.ok(plain.ok && logged.ok, plain.text + logged.text);
    assert.ok(tokens.length > 0, "no join token was seen, so the test shows nothing");
    search = new SecretSearch({ ...secrets, "the private key": lab.privateKey, "a join token": tokens.join("\n") });
  });

  after(async () => {
    stack.close();
    await lab.stop();
    figure("places searched for secrets on simulated hosts", places);
  });

  /** Asserts that a place holds no secret, and that one would have been found. */
  function assertClean(text: string): void {
    assert.ok(text.includes(CANARY), "what was planted is not found");
    assert.deepEqual(search.in(text), []);
    places += 1;
  }

  it("are not on the screen", () => {
    // The engine hands on the SDK's debug messages to the Automation API alone, unless it is asked to show them.
    const shown = plain.messages.filter((message) => !message.startsWith("debug "));
    assertClean([plain.text, plain.log, ...shown].join("\n"));
  });

  it("are not in exported state, nor in `__provider`", async () => {
    const text = await stack.exportText();
    assert.match(text, /"__provider": "exports\.handler = /);
    assertClean(text);
  });

  it("are not in what the backend keeps: checkpoints, their backups and the history", () => assertClean(stack.backendText()));

  it("are not in a command line or environment while `up` runs", () => {
    assert.ok(processes.samples > 10, `${processes.samples} samples`);
    assertClean(processes.text);
  });

  it("are not in a command on a host, nor in the path of a request", () => {
    const commands = lab.hosts.flatMap((host) => host.commands.map((argv) => argv.join(" ")));
    assert.deepEqual(search.in([...commands, ...lab.requests.map(({ path }) => path)].join("\n")), []);
    assert.ok(commands.some((line) => line.includes("apt-get")));
    assert.ok(lab.requests.some(({ path }) => path.includes("/1.0/cluster")));
    places += 2;
  });

  it("are not in files left on hosts, nor in guests, but for the password hash in /etc/shadow", () => {
    for (const { files } of lab.hosts) {
      files.writeFile("/root/planted", CANARY);
      assertClean(
        files
          .tree("/")
          .map((path) => (files.get(path)?.type === "file" ? files.readText(path) : ""))
          .join("\n"),
      );
    }
    const guest = lab.guestFiles("bcn2", "web1");
    guest.writeFile("/root/planted", CANARY);
    const kept = guest.tree("/").filter((path) => guest.get(path)?.type === "file" && path !== "/etc/shadow");
    assertClean(kept.map((path) => guest.readText(path)).join("\n"));
    assert.deepEqual(search.in(guest.readText("/etc/shadow")), ["a password hash"]);
  });

  it("are in debug logs only where Pulumi itself writes all inputs, and there is no join token even in those", () => {
    const lines = [logged.log, ...logged.messages].join("\n").split(/\n(?=\{"time"|debug |info |warning |error )/);
    const own = lines.filter((line) => !OF_PULUMI.test(line));
    const pulumis = lines.filter((line) => OF_PULUMI.test(line));
    assertClean(own.join("\n"));
    const found = search.in(pulumis.join("\n"));
    assert.ok(found.includes("password"), "Pulumi writes no inputs any more; drop the exception");
    assert.ok(!found.includes("a join token"));
    places += 1;
  });
});
