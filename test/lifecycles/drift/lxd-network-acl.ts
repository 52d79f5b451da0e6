import { networkAclLifecycle } from "../../../provider/resources/lxd-network-acl";
import { CLUSTER, driftTable, how, TIMEOUTS } from "./table";
import { ALL_POWER_CUT, cluster, lookUp } from "./world";

export const networkAclDrift = driftTable(networkAclLifecycle, {
  given: {
    name: "web",
    description: "web servers",
    ingress: [
      { action: "allow", protocol: "tcp", destinationPort: "80, 443", source: "fd00:0::/8" },
      { action: "drop", source: "10.0.0.9" },
    ],
    egress: [{ action: "allow" }],
    config: { "user.team": "a" },
  },
  start: () => cluster({ look: (two) => lookUp(two, "/1.0/network-acls/web") }),
  programs: {},

  object: {
    "the ACL itself": [
      {
        byHand: "lxc network acl delete web",
        answer: "recreated",
        why: "LXD has no ACL with that name. It refuses to delete one in use",
      },
      { byHand: "lxc network acl rename web www", answer: "recreated", why: "an ACL is identified by its name" },
    ],
    "the hosts": ALL_POWER_CUT,
  },

  inputs: {
    cluster: CLUSTER,
    timeouts: TIMEOUTS,
    adopt: how("whether an existing ACL is adopted"),
    name: { answer: "cannot drift", why: "an ACL is found by its name; a renamed one no longer exists" },
    project: { answer: "cannot drift", why: "LXD does not move an ACL to another project" },
    description: {
      byHand: "lxc network acl set web --property description=mine",
      answer: "repaired",
      why: "the program defines it",
    },
    ingress: [
      {
        byHand: "lxc network acl rule add web ingress action=allow protocol=tcp destination_port=22",
        answer: "repaired",
        why: "a rule that the program does not have is removed",
      },
      { byHand: "lxc network acl rule remove web ingress action=drop", answer: "repaired", why: "a missing rule" },
      {
        byHand: [
          "lxc network acl rule remove web ingress action=drop",
          "lxc network acl rule add web ingress action=drop source=10.0.0.9 state=disabled",
        ],
        answer: "repaired",
        why: "a disabled rule is another rule",
      },
      {
        byHand: [
          "lxc network acl rule remove web ingress action=allow",
          "lxc network acl rule add web ingress action=allow protocol=tcp destination_port=443,80 source=fd00::/8",
        ],
        answer: "ignored",
        why: "the same meaning: neither the order of rules and of lists nor the spelling of an address matters",
      },
    ],
    egress: { byHand: "lxc network acl rule remove web egress action=allow", answer: "repaired", why: "a missing rule" },
    config: [
      { byHand: "lxc network acl set web user.team=b", answer: "repaired", why: "another value" },
      {
        byHand: "lxc network acl set web user.other=1",
        answer: "repaired",
        why: "a key that the program does not set is removed",
      },
      {
        byHand: "lxc network acl unset web user.pulumi.urn",
        answer: "ignored",
        why: "state identifies the ACL by its name; the next change restores the ownership mark",
      },
    ],
  },

  outputs: {},
});
