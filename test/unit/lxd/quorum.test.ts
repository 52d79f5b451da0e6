import assert from "node:assert/strict";
import fc from "fast-check";
import {
  describeLeaving,
  describeLossWhileDown,
  describeQuorum,
  isVoter,
  type QuorumMember,
  quorumAfterLeaving,
  quorumOf,
  quorumWithout,
  votersAmong,
} from "../../../provider/lxd/cluster/quorum";

const member = (server_name: string, role: string, isDown = false): QuorumMember => ({
  server_name,
  isDown,
  roles: role === "leader" ? ["database-leader", "database"] : role === "" ? [] : [role],
});

/** Members with at least one voter, of which the first one leads. */
const clusters = fc
  .record({
    voters: fc.array(fc.boolean(), { minLength: 1, maxLength: 7 }),
    others: fc.array(fc.boolean(), { maxLength: 4 }),
  })
  .map(({ voters, others }) => [
    ...voters.map((isDown, index) => member(`voter${index}`, index === 0 ? "leader" : "database", isDown)),
    ...others.map((isDown, index) => member(`other${index}`, index % 2 === 0 ? "database-standby" : "", isDown)),
  ]);

describe("The quorum of a cluster", () => {
  const two = [member("bcn2", "leader"), member("bcn1", "database-standby")];
  const three = [member("bcn2", "leader"), member("bcn1", "database"), member("bcn3", "database")];

  it("of two members is one voter, whose failure is the end of the API, while the other one may fail", () => {
    assert.deepEqual(quorumOf(two), { leader: "bcn2", voters: ["bcn2"], onlineVoters: ["bcn2"], hasQuorum: true, mayFail: 0 });
    assert.equal(quorumWithout(two, "bcn2").hasQuorum, false);
    assert.equal(quorumWithout(two, "bcn1").hasQuorum, true);
    assert.equal(describeLossWhileDown(two, "bcn2"), "While bcn2 is down, no member's API answers: bcn2 is the only voter");
    assert.equal(describeLossWhileDown(two, "bcn1"), undefined);
  });

  it("of three members survives the loss of any one, and of no two", () => {
    assert.equal(describeQuorum(three), undefined);
    for (const { server_name: name } of three) {
      const { hasQuorum, mayFail } = quorumWithout(three, name);
      assert.deepEqual([hasQuorum, mayFail], [true, 0], name);
    }
    assert.equal(describeLossWhileDown(three, "bcn2"), "While bcn2 is down, no other voter may fail: bcn1, bcn3");
    const [leader, second, third] = three;
    assert.ok(leader && second && third);
    const oneDown = [leader, second, { ...third, isDown: true }];
    assert.equal(
      describeQuorum(oneDown),
      "The cluster has 2 of 3 voters of its database online: if one of bcn2, bcn1 fails, no member's API answers",
    );
    assert.equal(
      describeLossWhileDown(oneDown, "bcn1"),
      "While bcn1 is down, no member's API answers: bcn1 is a voter, and only bcn2 of 3 would be online",
    );
    assert.equal(
      describeQuorum([leader, { ...second, isDown: true }, { ...third, isDown: true }]),
      "The cluster has 1 of 3 voters of its database online, which is no quorum: no member's API answers",
    );
    assert.equal(quorumWithout(oneDown, "bcn1").hasQuorum, false);
    assert.equal(quorumAfterLeaving(oneDown, ["bcn1"]).hasQuorum, false, "one of two voters is no majority");
    assert.equal(quorumAfterLeaving(oneDown, ["bcn3"]).hasQuorum, true);
  });

  it("after the leader of two members has left is that of the other one", () => {
    assert.deepEqual(quorumAfterLeaving(two, ["bcn2"]).onlineVoters, ["bcn1"]);
    assert.equal(
      quorumAfterLeaving([member("bcn2", "leader"), member("bcn1", "database-standby", true)], ["bcn2"]).hasQuorum,
      false,
    );
  });

  it("is that of the voters, by whatever name the server has for them", () => {
    const newer: QuorumMember[] = [
      { server_name: "a", isDown: false, roles: ["database-leader"] },
      { server_name: "b", isDown: false, roles: ["database-voter", "control-plane"] },
      { server_name: "c", isDown: false, roles: ["database-standby"] },
      { server_name: "d", isDown: false, roles: null },
    ];
    assert.deepEqual(
      newer.filter(isVoter).map(({ server_name }) => server_name),
      ["a", "b"],
    );
  });

  it("is one voter among fewer than three members, then as many as cluster.max_voters", () => {
    assert.deepEqual(
      [0, 1, 2, 3, 4, 7].map((members) => votersAmong(members, 3)),
      [0, 1, 1, 3, 3, 3],
    );
    assert.deepEqual(
      [2, 3, 4, 7].map((members) => votersAmong(members, 5)),
      [1, 3, 4, 5],
    );
  });

  it("is there exactly while more than half of the voters are not offline", () => {
    fc.assert(
      fc.property(clusters, (members) => {
        const { voters, onlineVoters, hasQuorum, mayFail } = quorumOf(members);
        assert.equal(hasQuorum, 2 * onlineVoters.length > voters.length);
        assert.ok(!hasQuorum || 2 * (onlineVoters.length - mayFail) > voters.length);
        assert.ok(2 * (onlineVoters.length - mayFail - 1) <= voters.length);
      }),
    );
  });

  it("survives as many failures, of any voters, as it says, and not one more", () => {
    fc.assert(
      fc.property(clusters, fc.gen(), (members, gen) => {
        const { onlineVoters, hasQuorum, mayFail } = quorumOf(members);
        fc.pre(hasQuorum);
        const failing = gen(() => fc.shuffledSubarray([...onlineVoters], { minLength: mayFail + 1, maxLength: mayFail + 1 }));
        const without = (names: readonly string[]): QuorumMember[] =>
          members.map((each) => (names.includes(each.server_name) ? { ...each, isDown: true } : each));
        assert.equal(quorumOf(without(failing.slice(1))).hasQuorum, true);
        assert.equal(quorumOf(without(failing)).hasQuorum, false);
      }),
    );
  });

  it("does not change when a member fails or leaves that does not vote", () => {
    fc.assert(
      fc.property(clusters, (members) => {
        for (const { server_name: name } of members.filter((each) => !isVoter(each))) {
          assert.deepEqual(quorumWithout(members, name), quorumOf(members));
          assert.deepEqual(quorumAfterLeaving(members, [name]), quorumOf(members));
        }
      }),
    );
  });

  it("is never hurt by the removal of a member that is offline", () => {
    fc.assert(
      fc.property(clusters, (members) => {
        fc.pre(quorumOf(members).hasQuorum);
        for (const { server_name: name } of members.filter(({ isDown }) => isDown)) {
          assert.equal(quorumAfterLeaving(members, [name]).hasQuorum, true);
        }
      }),
    );
  });

  it("is described while a voter is offline", () => {
    fc.assert(
      fc.property(clusters, (members) => {
        const isWhole = members.every((each) => !isVoter(each) || !each.isDown);
        assert.equal(describeQuorum(members) === undefined, isWhole);
      }),
    );
  });

  describe("that members leave", () => {
    const four = [...three, member("bcn4", "database-standby")];

    it("is said to depend on one host, when no more than two stay", () => {
      assert.deepEqual(describeLeaving(three, ["bcn3"], 3), [
        "Without bcn3 the cluster has two members, of which one votes: if that one fails, no member's API answers",
      ]);
      assert.deepEqual(describeLeaving(three, ["bcn1", "bcn3"], 3), [
        "Without bcn1, bcn3 the cluster has one member: if that one fails, no member's API answers",
      ]);
      assert.deepEqual(describeLeaving(four, ["bcn4"], 3), []);
    });

    it("is said to bear fewer failures", () => {
      const five = [...three, member("bcn4", "database"), member("bcn5", "database")];
      assert.deepEqual(describeLeaving(five, ["bcn5"], 5), [
        "Without bcn5 the cluster has 4 voters, of which 1 may fail, instead of 2",
      ]);
      assert.deepEqual(describeLeaving(five, ["bcn5"], 3), []);
    });

    it("is said to be led by another member, when the leader leaves", () => {
      assert.deepEqual(describeLeaving(four, ["bcn2"], 3), ["bcn2 leads the cluster. Another member leads it when it has left"]);
      assert.deepEqual(describeLeaving(two, ["bcn2"], 3), ["bcn2 leads the cluster. Another member leads it when it has left"]);
    });

    it("is said to be lost, when too few voters stay", () => {
      const oneDown = three.map((each) => (each.server_name === "bcn3" ? { ...each, isDown: true } : each));
      assert.deepEqual(describeLeaving(oneDown, ["bcn1"], 3), [
        "Without bcn1 the cluster would have 1 of 2 voters of its database online, which is no quorum",
      ]);
    });

    it("is not described for a cluster that ends, nor for a host that is no member", () => {
      assert.deepEqual(describeLeaving(two, ["bcn1", "bcn2"], 3), []);
      assert.deepEqual(describeLeaving(three, ["other"], 3), []);
    });
  });
});
