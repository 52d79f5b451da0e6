import { pathOfSysctls } from "../../../provider/machine/sysctls";
import { hostSysctlsLifecycle } from "../../../provider/resources/host-sysctls";
import { edit, HOST_INPUTS, HOST_ROWS, ON_HOST } from "./machines";
import { driftTable, how } from "./table";

const PATH = pathOfSysctls("60-lxd");
const FORWARD = "/proc/sys/net/ipv4/ip_forward";

export const hostSysctlsDrift = driftTable(hostSysctlsLifecycle, {
  given: { name: "60-lxd", values: { "net.ipv4.ip_forward": 1, "net.ipv4.tcp_rmem": "4096 131072 8388608" } },
  start: (program) =>
    ON_HOST.start(program, { looksAt: [PATH, FORWARD, "/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/vm/swappiness"] }),
  programs: {},
  object: {
    "the file for the next boot": [
      { byHand: `ssh bcn2 rm ${PATH}`, answer: "repaired", shows: ["values"], why: "its mark is there, so it is still managed" },
      { byHand: `ssh bcn2 chmod 600 ${PATH}`, answer: "repaired", shows: ["values"], why: "the program defines it" },
      {
        byHand: edit(ON_HOST, `\`${PATH}\` is edited`, PATH, (text) => text.replace("forward = 1", "forward = 0")),
        answer: "repaired",
        shows: ["values"],
        why: "the host would have another value after its next boot",
      },
    ],
    ...HOST_ROWS,
  },
  inputs: {
    ...HOST_INPUTS,
    adopt: how("whether an existing file is adopted"),
    name: { answer: "cannot drift", why: "a file of another name is another file" },
    values: [
      { byHand: "ssh bcn2 sysctl --write net.ipv4.ip_forward=0", answer: "repaired", why: "the program defines it" },
      {
        byHand: "ssh bcn2 sysctl --write vm.swappiness=10",
        answer: "ignored",
        why: "a parameter that the program does not name is not managed",
      },
    ],
  },
  outputs: { isFileIntact: { answer: "cannot drift", why: "it is shown with `values`" } },
});
