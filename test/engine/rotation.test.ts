import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { type SimulatedHost, SimulatedLab } from "../../lab/simulated";
import { makeKeyPair } from "../../lab/simulated/keys";
import { listenOnLoopback } from "../../lab/simulated/loopback-port";
import { figure } from "../support/figure";
import { SshAgent } from "../support/ssh-agent";
import { TWO_HOSTS } from "../support/two-hosts";
import { type ClusterProgram, clusterProgram } from "./cluster-program";
import { EngineStack, type Run, type Step } from "./workspace";

type Connect = (host: SimulatedHost) => Record<string, unknown>;

/** What is reached: two nodes, two members, pool, network, image, profile, VM and user. */
const RESOURCES = 10;

const HINT = /used the connection that the last pulumi up stored.*pulumi up --refresh=false/s;

describe("a connection that changes on purpose", () => {
  let lab: SimulatedLab;
  let stack: EngineStack;
  let hosts: readonly SimulatedHost[];
  let rotations = 0;
  const roads: Road[] = [];
  const agents: SshAgent[] = [];

  before(async () => {
    lab = await SimulatedLab.start({
      hosts: [...TWO_HOSTS, { name: "jump", lanAddress: "192.168.1.110" }],
    });
    hosts = lab.hosts.filter(({ name }) => name !== "jump");
    stack = await EngineStack.open();
    program(() => ({}));
    const { ok, text } = await stack.up();
    assert.ok(ok, text);
  });

  after(async () => {
    await Promise.all([...roads, ...agents].map((each) => each.stop()));
    stack.close();
    await lab.stop();
    figure("rotations of a connection", rotations);
  });

  afterEach(() => assert.deepEqual(lab.defects, []));

  /** The road to a host that is open now. */
  const byRoad: Connect = (host) => ({ port: (roads.find((road) => road.host === host) ?? assert.fail()).port });

  /** Sets how the program reaches the hosts, and what it has besides. */
  function program(connection: Connect, more: ClusterProgram = {}): void {
    const rest: ClusterProgram = { vms: { web1: {} }, user: {}, ...more };
    stack.define(clusterProgram(lab, { ...rest, hosts, connection }));
  }

  /** Lets in by these keys and this password alone. */
  function letIn(login: { keys?: readonly string[]; password?: string }): void {
    for (const host of hosts) {
      const { users } = host.login;
      host.login = {
        users,
        publicKeys: [...(login.keys ?? [])],
        ...(login.password !== undefined && { password: login.password }),
      };
    }
  }

  async function succeeds(run: Promise<Run>): Promise<Run> {
    const done = await run;
    assert.ok(done.ok, done.text);
    return done;
  }

  /** Runs the program with what it has now, and asserts that nothing but state is changed by it. */
  async function changesStateAlone(options: { refresh?: false } = {}): Promise<void> {
    const [asked, changed, dialled] = [lab.requests.length, lab.lifecycle.length, dials()];
    const { steps } = await succeeds(stack.up(options));
    updatesAll(steps);
    assert.deepEqual(lab.mutations(asked), []);
    assert.deepEqual(lab.lifecycle.slice(changed), []);
    if (options.refresh === false) {
      assert.deepEqual([lab.requests.slice(asked), dials()], [[], dialled], "a host was asked for something");
    }
    await comesToRest();
    rotations += 1;
  }

  function updatesAll(steps: readonly Step[]): void {
    assert.deepEqual(
      steps.filter(({ op }) => op !== "update"),
      [],
    );
    assert.equal(steps.length, RESOURCES);
  }

  async function comesToRest(): Promise<void> {
    const asked = lab.requests.length;
    const { steps } = await succeeds(stack.up());
    assert.deepEqual([steps, lab.mutations(asked)], [[], []]);
  }

  const dials = (): number => lab.hosts.reduce((sum, { counters }) => sum + counters.attempts, 0);

  describe("and is kept in state by value", () => {
    /** What the program gives to log in, and where the hosts are. */
    let login: Record<string, unknown> = {};
    let way: Connect = () => ({});

    const programAsItIs = (): void => program((host) => ({ ...login, ...way(host) }));

    function useNewKey(): void {
      const { publicKey, privateKey } = makeKeyPair();
      letIn({ keys: [publicKey] });
      login = { privateKey };
    }

    /** A password in place of the key, by a plain `up` while the hosts still take both. */
    async function becomesPassword(password: string): Promise<void> {
      for (const host of hosts) {
        host.login = { ...host.login, password };
      }
      login = { privateKey: undefined, password };
      programAsItIs();
      await changesStateAlone();
    }

    const rotated: readonly { what: string; says: RegExp; rotate: () => Promise<void> | void }[] = [
      {
        what: "key that the hosts no longer take",
        says: /root@127\.0\.0\.1:\d+ did not accept the login \(tried: private key\)/,
        rotate: useNewKey,
      },
      {
        what: "password",
        says: /root@127\.0\.0\.1:\d+ did not accept the login \(tried: password; keyboard-interactive\)/,
        rotate: async () => {
          await becomesPassword("first-password");
          login = { privateKey: undefined, password: "second-password" };
          letIn({ password: "second-password" });
        },
      },
      {
        what: "host key",
        says: /root@127\.0\.0\.1:\d+ was not trusted: the host presented the key ssh-ed25519 SHA256:\S+, which is not connection\.hostKey/,
        rotate: () => {
          for (const host of hosts) {
            host.changeHostKey();
          }
        },
      },
      {
        what: "address at which nobody answers any more",
        says: /root@127\.0\.0\.1:\d+ cannot be reached by SSH: connect ECONNREFUSED/,
        rotate: async () => {
          roads.push(...(await Promise.all(hosts.map((host) => Road.to(host)))));
          way = byRoad;
          programAsItIs();
          await succeeds(stack.up());
          await Promise.all(roads.splice(0).map((road) => road.stop()));
          roads.push(...(await Promise.all(hosts.map((host) => Road.to(host)))));
        },
      },
      {
        what: "way, which now leads through a jump host",
        says: /root@127\.0\.0\.1:\d+ cannot be reached by SSH: connect ECONNREFUSED/,
        rotate: async () => {
          await Promise.all(roads.splice(0).map((road) => road.stop()));
          way = () => ({ proxy: lab.host("jump").connection });
        },
      },
    ];
    for (const { what, says, rotate } of rotated) {
      it(`stops a refresh with a ${what}, and is stored by \`up --refresh=false\`, which asks no host for anything`, async () => {
        await rotate();
        programAsItIs();
        const { ok, text, steps } = await stack.preview();
        assert.equal(ok, false);
        assert.match(text, says);
        assert.match(text, HINT);
        assert.deepEqual(steps, []);
        updatesAll((await succeeds(stack.preview({ refresh: false }))).steps);
        await changesStateAlone({ refresh: false });
      });
    }

    it("of what is no longer in the program is stored when that is put back once, and then it is removed", async () => {
      const withExtra = (): void => program((host) => ({ ...login, ...way(host) }), { extra: { name: "spare" } });
      withExtra();
      await succeeds(stack.up());
      useNewKey();
      programAsItIs();
      const { ok, text } = await stack.up({ refresh: false });
      assert.equal(ok, false);
      assert.match(text, /did not accept the login/);
      assert.match(text, HINT);
      withExtra();
      await succeeds(stack.up({ refresh: false }));
      programAsItIs();
      const { steps } = await succeeds(stack.up());
      assert.deepEqual(
        steps.map(({ op, name }) => `${op} ${name}`),
        ["delete extra"],
      );
      await comesToRest();
    });

    it("is stored by a plain `up` when the agent holds the new key, whatever the old one is worth", async () => {
      const { privateKey, publicKey } = makeKeyPair();
      letIn({ keys: [publicKey] });
      const agent = await SshAgent.start(privateKey);
      agents.push(agent);
      stack.setEnvironment({ SSH_AUTH_SOCK: agent.socket });
      login = { privateKey };
      programAsItIs();
      await changesStateAlone();
      stack.setEnvironment({ SSH_AUTH_SOCK: "" });
      await comesToRest();
    });
  });

  describe("and is kept in state by reference", () => {
    const path = (): string => join(stack.home, "id_ed25519");

    /** `refresh` finds nothing to do, with a state that was written before. */
    async function noticesNothing(): Promise<void> {
      const asked = lab.requests.length;
      assert.deepEqual((await succeeds(stack.refresh())).steps, []);
      assert.deepEqual(lab.mutations(asked), []);
      rotations += 1;
    }

    it("works with the new key in the file, and no program is run for it", async () => {
      const [old, key] = [makeKeyPair(), makeKeyPair()];
      writeFileSync(path(), old.privateKey, { mode: 0o600 });
      const agent = agents[0] ?? assert.fail();
      agent.add(old.privateKey);
      letIn({ keys: [old.publicKey] });
      stack.setEnvironment({ SSH_AUTH_SOCK: agent.socket });
      program(() => ({ privateKey: undefined, privateKeyPath: path() }));
      await changesStateAlone();
      stack.setEnvironment({ SSH_AUTH_SOCK: "" });

      writeFileSync(path(), key.privateKey);
      letIn({ keys: [key.publicKey] });
      await noticesNothing();
    });

    it("works with the new host key in known_hosts", async () => {
      const know = (): void => {
        const lines = hosts.map((host) => `[127.0.0.1]:${host.port} ${host.hostKey}\n`);
        writeFileSync(join(stack.home, ".ssh", "known_hosts"), lines.join(""));
      };
      mkdirSync(join(stack.home, ".ssh"));
      know();
      program(() => ({ privateKey: undefined, privateKeyPath: path(), hostKey: undefined }));
      await changesStateAlone();
      for (const host of hosts) {
        host.changeHostKey();
      }
      assert.match((await stack.refresh()).text, /its host key has changed: .*ssh-keygen -R '\[127\.0\.0\.1\]:\d+'/);
      know();
      await noticesNothing();
    });

    it("works with the new key in the agent, also another agent than last time, and `destroy` with yet another", async () => {
      const [first, second, third] = [makeKeyPair(), makeKeyPair(), makeKeyPair()];
      const use = async ({ privateKey, publicKey }: typeof first): Promise<void> => {
        const agent = await SshAgent.start(privateKey);
        agents.push(agent);
        letIn({ keys: [publicKey] });
        stack.setEnvironment({ SSH_AUTH_SOCK: agent.socket });
      };
      await use(first);
      program(() => ({ privateKey: undefined, hostKey: undefined }));
      await changesStateAlone();
      await use(second);
      await noticesNothing();
      await use(third);
      const { steps } = await succeeds(stack.destroy());
      assert.equal(steps.filter(({ op }) => op === "delete").length, RESOURCES);
      rotations += 1;
    });
  });
});

/** A port that leads to a host until the address is given up. */
class Road {
  private readonly sockets = new Set<Socket>();

  private constructor(
    readonly host: SimulatedHost,
    readonly port: number,
    private readonly server: Server,
  ) {
    server.on("connection", (socket) => {
      const onward = connect(host.port, "127.0.0.1");
      for (const [here, there] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        this.sockets.add(here);
        here.on("error", () => there.destroy()).on("close", () => there.destroy());
        here.pipe(there);
      }
    });
  }

  static async to(host: SimulatedHost): Promise<Road> {
    const server = createServer();
    return new Road(host, await listenOnLoopback(server), server);
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve));
    for (const socket of this.sockets) {
      socket.destroy();
    }
    await closed;
  }
}
