/** Programs in Perl that reach a unix socket of a host where sshd does not. Perl's base package is on every Debian and Ubuntu host. */

/** What {@link RELAY} writes when it is connected. */
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
 * Writes which of the paths given is the first on which something listens: its number, from 0, or nothing. The file of a socket stays when its daemon
 * has died, so it is connected to.
 */
export const FIND_LISTENER = `
use strict; use IO::Socket::UNIX;
for my $index (0 .. $#ARGV) {
  if (IO::Socket::UNIX->new(Peer => $ARGV[$index])) { print $index; exit }
  $!{ENOENT} || $!{ECONNREFUSED} || $!{ENOTDIR} or die "$ARGV[$index]: $!\\n";
}
`.trim();
