/** `sluice send`: one event, or the lines of a file or a pipe. */
import { createReadStream } from 'node:fs';
import { systemClock } from '../clock.js';
import { SluiceError } from '../client/index.js';
import type { EventText, SendOutcome } from '../client/index.js';
import type { CommandContext, RunCommand } from './client-command.js';
import { errorSentence } from './client-failure.js';
import { CommandError } from './command-error.js';
import { eventLines } from './event-lines.js';
import { amount, Progress } from './progress.js';
import { say } from './start.js';

export const runSend: RunCommand = async (context) => {
  const [type, json] = context.invocation.arguments;
  const file = context.invocation.values.get('file')?.[0] ?? (type === '-' && json === undefined ? '-' : undefined);
  if (file !== undefined) return sendLines(context, file);
  if (type === undefined || json === undefined) {
    throw new CommandError(
      `send needs a type and a payload, such as: sluice send user.created '{"user_id": 12345}'; or --file, or - for standard input.`,
      2,
    );
  }
  return sendOne(context, type, json);
};

const sendOne = async (
  { invocation, client, out, signal }: CommandContext,
  type: string,
  rawPayload: string,
): Promise<0> => {
  try {
    JSON.parse(rawPayload);
  } catch {
    throw new CommandError(
      `The payload is not JSON; put it in single quotes, such as '{"user_id": 12345}', and a string in double quotes inside them: '"text"'.`,
      2,
    );
  }
  const event = {
    type,
    rawPayload,
    dedup_id: invocation.values.get('dedup-id')?.[0] ?? null,
    subject: invocation.values.get('subject')?.[0] ?? null,
  };
  await out.json(await client().events.send(event, { signal }));
  return 0;
};

/** Nobody should have to begin a large file again because of a server that is restarted or an empty bucket. */
const retry = { attemptsMax: 1_000, totalSeconds: 600 };
const shownMax = 5;

async function sendLines({ invocation, client, signal }: CommandContext, file: string): Promise<0 | 1> {
  const { values } = invocation;
  if (values.has('dedup-id') || values.has('subject') || invocation.arguments.some((argument) => argument !== '-')) {
    throw new CommandError(
      'Of a file each line says its type, payload, dedup_id and subject itself; leave them out here.',
      2,
    );
  }
  // A wrong address or key is said at once, not after the long retries below.
  await client().org.get({ signal });
  const progress = new Progress(systemClock, process.stderr);
  const count = { stored: 0, duplicate: 0, refused: 0 };
  let shown: readonly { readonly line: number; readonly text: string }[] = [];
  const refuse = (line: number, code: string, detail: string): void => {
    count.refused++;
    // What is refused here is known before what the server refuses of earlier lines.
    const all = [...shown, { line, text: `line ${line}: ${detail} (${code})` }];
    shown = all.toSorted((one, other) => one.line - other.line).slice(0, shownMax);
  };
  const tally = (outcomes: readonly SendOutcome[]): void => {
    for (const { event, result } of outcomes) {
      if (result.status === 201) count.stored++;
      else if (result.status === 200) count.duplicate++;
      else refuse((event as EventText & { readonly line: number }).line, result.code ?? '', result.detail ?? '');
    }
    progress.at(count.stored + count.duplicate, () => `${count.refused} refused`);
  };
  const source = file === '-' ? process.stdin : createReadStream(file);
  let failure: string | undefined;
  try {
    const concurrency = Number(values.get('concurrency')?.[0] ?? 1);
    await client({ retry }).events.sendMany(eventLines(source, refuse), { concurrency, onResults: tally, signal });
  } catch (error) {
    if (error instanceof SluiceError) failure = errorSentence(error);
    else if (signal.aborted) failure = 'Ended before all lines were sent.';
    else if (isFileError(error)) failure = `${file} cannot be read (${error.code}).`;
    else throw error;
  } finally {
    source.destroy();
  }
  const { stored, duplicate, refused } = count;
  progress.end(
    `${amount(stored + duplicate + refused, 'line')}: ${stored} stored, ${duplicate} duplicate, ${refused} refused.`,
  );
  for (const { text } of shown) say(text);
  if (refused > shown.length) say(`and ${refused - shown.length} more`);
  if (failure === undefined) return refused === 0 ? 0 : 1;
  say(failure);
  say('Sent again, lines with a dedup_id are not stored twice; lines without one are.');
  return 1;
}

function isFileError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}
