/** Ends a command with a sentence that says what to do next. */
export class CommandError extends Error {
  override readonly name = 'CommandError';

  constructor(
    sentence: string,
    readonly exitCode: 1 | 2 = 1,
  ) {
    super(sentence);
  }
}
