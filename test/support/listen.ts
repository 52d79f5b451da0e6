/**
 * A program in Perl for a host of the lab: takes an address and UDP port, also an address that the host does not have yet (IP_FREEBIND), and
 * leaves a child behind that keeps them. Prints the number of the child.
 */
export const LISTEN = `use Socket; socket(S, PF_INET, SOCK_DGRAM, 17) or die $!; setsockopt(S, 0, 15, pack("i", 1)) or die $!;
bind(S, sockaddr_in($ARGV[1], inet_aton($ARGV[0]))) or die $!;
my $child = fork; if ($child) { print $child; exit } close STDIN; close STDOUT; close STDERR; sleep;`;

/**
 * The same for the port of DNS of a bridge, beside the bridge's own dnsmasq (SO_REUSEADDR, SO_BINDTODEVICE). The child is in the way of the next
 * dnsmasq until shortly after the process of the given number has ended: like a dnsmasq that was killed, and has not had a processor since.
 * Arguments: an address, the bridge, the process.
 */
export const LINGER = `use Socket; socket(S, PF_INET, SOCK_DGRAM, 17) or die $!;
setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1) or die $!; setsockopt(S, SOL_SOCKET, 25, "$ARGV[1]\\0") or die $!;
bind(S, sockaddr_in(53, inet_aton($ARGV[0]))) or die $!; setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 0) or die $!;
my $child = fork; if ($child) { print $child; exit } close STDIN; close STDOUT; close STDERR;
while (kill 0, $ARGV[2]) { select undef, undef, undef, 0.01 } select undef, undef, undef, 1.2;`;
