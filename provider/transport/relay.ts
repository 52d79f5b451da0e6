/** Perl programs that reach a unix socket of a host when sshd does not. Every Debian and Ubuntu host has Perl's base package. */

/** Text that {@link RELAY} writes when it is connected. */
export const CONNECTED = "connected\n";

/** Copies bytes between its own standard streams and a unix socket. */
export const RELAY = `
use strict; use IO::Socket::UNIX;
my $socket = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$!\\n";
syswrite(STDOUT, "${CONNECTED.trim()}\\n");
sub copy { my ($in, $out) = @_; my $buffer;
  while (sysread($in, $buffer, 65536)) { my $sent = 0; while ($sent < length $buffer) { $sent += syswrite($out, $buffer, length($buffer) - $sent, $sent) // exit } } }
my $child = fork; if ($child == 0) { copy(\\*STDIN, $socket); shutdown($socket, 1); exit }
copy($socket, \\*STDOUT); kill "TERM", $child;
`.trim();

/**
 * Writes the index, from 0, of the first of the given paths on which something listens, or nothing. Connects to each, because the file of
 * a socket stays after its daemon died.
 */
export const FIND_LISTENER = `
use strict; use IO::Socket::UNIX;
for my $index (0 .. $#ARGV) {
  if (IO::Socket::UNIX->new(Peer => $ARGV[$index])) { print $index; exit }
  $!{ENOENT} || $!{ECONNREFUSED} || $!{ENOTDIR} or die "$ARGV[$index]: $!\\n";
}
`.trim();
