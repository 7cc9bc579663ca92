/** Progress, for whoever waits: on standard error, so that standard output holds the result alone. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
