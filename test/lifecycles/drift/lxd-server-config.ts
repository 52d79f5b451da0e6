import { serverConfigLifecycle } from "../../../provider/resources/lxd-server-config";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, evacuateAndPowerOff, powerOff, powerOn, powerOnAndRestore } from "./world";

export const serverConfigDrift = driftTable(serverConfigLifecycle, {
  given: {
    config: { "cluster.max_voters": 5, "cluster.offline_threshold": 20, "images.auto_update_cached": false },
    memberConfig: { bcn1: { "core.debug_address": "127.0.0.1:8444" } },
  },
  start: () =>
    cluster({
      look: ({ lab }) => {
        const all = lab.hosts.map(({ name, powered, daemon }) => ({ name, powered, own: { ...daemon?.localConfig } }));
        return Promise.resolve([all, { ...lab.host("bcn2").daemon?.database.config }]);
      },
    }),
  programs: {},

  object: { "the hosts": ALL_POWER_CUT },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether a key that has another value is managed"),
    config: [
      { byHand: "lxc config set cluster.max_voters=7", answer: "repaired", why: "another value" },
      { byHand: "lxc config unset cluster.max_voters", answer: "repaired", why: "a missing key" },
      {
        byHand: "lxc config set cluster.offline_threshold=30",
        answer: "repaired",
        why: "the program gives the server's default",
      },
      { byHand: "lxc config set images.auto_update_cached=0", answer: "ignored", why: "both values mean the same" },
      {
        byHand: "lxc config set images.auto_update_interval=24",
        answer: "ignored",
        why: "a key that the program does not give is not managed",
      },
    ],
    memberConfig: [
      { byHand: "lxc config set core.debug_address=127.0.0.1:9000 --target bcn1", answer: "repaired", why: "another value" },
      { byHand: "lxc config unset core.debug_address --target bcn1", answer: "repaired", why: "a missing key" },
      {
        byHand: "lxc config set core.debug_address=127.0.0.1:9000",
        answer: "ignored",
        why: "another member's value is not managed",
      },
      {
        byHand: powerOff("bcn1"),
        answer: "ignored",
        cure: powerOn("bcn1"),
        why: "a member that cannot be asked is taken to be unchanged",
      },
      {
        byHand: evacuateAndPowerOff("bcn1"),
        answer: "ignored",
        cure: powerOnAndRestore("bcn1"),
        why: "so is one that was evacuated and switched off",
      },
    ],
  },

  outputs: {
    former: { answer: "cannot drift", why: "it has the values from before the keys were managed" },
    reported: { answer: "cannot drift", why: "it has what the server told after the last change" },
  },
});
