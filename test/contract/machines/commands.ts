import assert from "node:assert/strict";
import { hostCommandLifecycle, vmCommandLifecycle } from "../../../provider/resources/machine-command";
import type { Subject } from "./harness";

const PAIR = { vm: vmCommandLifecycle, host: hostCommandLifecycle };
const RAN = "/srv/contract-ran";

/** Commands. */
export function commandsContract({ manage, args, output, exitCode }: Subject): void {
  it("runs once, and again when a trigger changes or what it creates is gone", async () => {
    const it = manage(PAIR);
    const touch = (own: object = {}): object => args({ command: ["touch", RAN], ...own });
    assert.equal(await it.up(touch()), "created");
    await output("rm", RAN);
    assert.equal(await it.up(touch()), "same");
    assert.equal(await exitCode("test", "-e", RAN), 1);
    assert.equal(await it.up(touch({ triggers: [1], creates: RAN, onDelete: ["rm", RAN] })), "updated");
    await output("rm", RAN);
    assert.equal(await it.preview(touch({ triggers: [1], creates: RAN, onDelete: ["rm", RAN] })), "updated");
    assert.equal(await it.up(touch({ triggers: [1], creates: RAN, onDelete: ["rm", RAN] })), "updated");
    await output("test", "-e", RAN);
    await it.destroy();
    assert.equal(await exitCode("test", "-e", RAN), 1);
  });

  it("gets words, variables and input unchanged, and returns both outputs", async () => {
    const it = manage(PAIR);
    const word = 'a b it\'s "$HOME" `id` * ä;|&<>()#~! \\\\ -n\nline';
    await it.up(args({ command: ["printenv", "VALUE"], environment: { OTHER: "", VALUE: word } }));
    assert.equal(it.inState("stdout"), `${word}\n`);
    await it.up(args({ command: ["cat"], environment: { OTHER: word }, stdin: `\n${word}\n\n` }));
    assert.equal(it.inState("stdout"), `\n${word}\n\n`);
    await it.up(args({ command: ["cat"], stdin: word }));
    assert.equal(it.inState("stdout"), word);
    await it.up(args({ command: ["echo", word] }));
    assert.equal(it.inState("stdout"), `${word}\n`);
    await assert.rejects(it.up(args({ command: ["cat", "/nowhere"] })), /cat on .* failed with exit code 1: .*No such file/);
    await assert.rejects(it.up(args({ command: ["no-such-program"] })), /no-such-program on .* failed with exit code 127/);
  });

  it("is not run while unless succeeds", async () => {
    await manage(PAIR).up(args({ command: ["false"], unless: ["test", "-e", "/etc/passwd"] }));
    await assert.rejects(manage(PAIR).up(args({ command: ["false"], unless: ["test", "-e", "/nowhere"] })), /exit code 1/);
  });

  it("is stopped at the end of its time", async () => {
    const long = args({ command: ["sleep", "600"], timeouts: { create: 8 } });
    await assert.rejects(manage(PAIR).up(long), /did not end within \d s and was stopped\. Give it more time \(timeouts\)/);
  });
}
