/**
 * What the engine stores as a dynamic resource's `__provider`: not the provider's code, but where to find it. State therefore never
 * holds stale code, and a new version of this package makes no difference in a preview. It is resolved from the directory of the
 * program, so that it works in a program that has the package in node_modules and in this repository itself.
 *
 * These bytes are in the state of every stack. Changing them updates every resource of every user (docs/adr/0001).
 */
export function providerPointer(kind: string): string {
  return `exports.handler = () => require("node:module").createRequire(process.cwd() + "/")("pulumi-lxd-cluster/provider").provider(${JSON.stringify(kind)});\n`;
}
