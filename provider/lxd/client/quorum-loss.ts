/** What to do about a cluster whose database has no quorum. Its members then answer without it, fail, or are silent, by version and moment. */
export const QUORUM_REMEDY =
  "A cluster answers only while more than half of the voters of its database are online (quorum): bring the other hosts back. If they are lost " +
  "for good, see docs/guide/recovery.md of pulumi-lxd-cluster";
