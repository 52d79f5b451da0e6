/**
 * A program in Perl for a host of the lab: takes an address and UDP port, also an address that the host does not have yet (IP_FREEBIND), and
 * leaves a child behind that keeps them. Prints the number of the child.
 */
export const LISTEN = `use Socket; socket(S, PF_INET, SOCK_DGRAM, 17) or die $!; setsockopt(S, 0, 15, pack("i", 1)) or die $!;
bind(S, sockaddr_in($ARGV[1], inet_aton($ARGV[0]))) or die $!;
my $child = fork; if ($child) { print $child; exit } close STDIN; close STDOUT; close STDERR; sleep;`;
