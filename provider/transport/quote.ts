/** Quotes one argument for a POSIX shell. The only place where a command line is put together. */
function quote(argument: string): string {
  return /^[A-Za-z0-9_/:=.,@%+-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
}

/** The command line that makes a POSIX shell run exactly these arguments. */
export function commandLine(argv: readonly string[]): string {
  return argv.map(quote).join(" ");
}
