/** The body of a batch of events: a JSON array, or JSON lines (NDJSON), each event checked on its own. */
import { isAscii, isUtf8 } from 'node:buffer';
import { Problem } from '../errors.js';
import { bodyBytesMax, type EventEnvelope, type ItemReader } from './envelope.js';
import { invalidUtf8, isObject, parseText } from './json-body.js';
import { ElementScanner, scanMembers } from './json-scanner.js';

export const batchEventsMax = 1_000;
export const batchBodyBytesMax = 8 * 1024 * 1024;
/** One event with all of its fields: as much as may be sent alone. */
const eventBytesMax = bodyBytesMax;
/**
 * Bytes that are read before other work has its turn. A body that was made to be slow takes seconds (8 MiB of brackets: 2 s in `JSON.parse`
 * alone), so what is parsed at once is never more than this and one event.
 */
const turnBytes = 256 * 1024;

export type BatchFormat = 'array' | 'lines';

/** An event, or why it is refused. */
export type BatchItem = EventEnvelope | Problem;

/**
 * The events of a batch, in the order sent, each as `reader` reads it. Throws a `Problem` that refuses the whole: `batch_too_large` (413) above 1,000 events; `invalid_utf8`,
 * `invalid_json` (400) if an array cannot be read, while of lines each has its own outcome; `validation_failed` (422) if it is no array or
 * empty. An event of more than 320 KiB is refused without being parsed: only its end is looked for.
 */
export async function parseBatch(body: Buffer, format: BatchFormat, reader: ItemReader): Promise<BatchItem[]> {
  const items = format === 'array' ? await parseArray(body, reader) : await parseLines(body, reader);
  if (items.length === 0) throw wholeRefused('must hold at least one event');
  return items;
}

async function parseArray(body: Buffer, reader: ItemReader): Promise<BatchItem[]> {
  if (!isUtf8(body)) throw invalidUtf8('The body');
  const ascii = asciiText(body);
  const elements = new ElementScanner(body, ascii);
  if (!elements.opensArray) throw notAnArray(body);
  const items: BatchItem[] = [];
  const turns = new Turns();
  while (nextElement(elements, reader, items.length)) {
    if (items.length === batchEventsMax) throw tooManyEvents();
    const { start, end } = elements;
    if (end - start > eventBytesMax) {
      items.push(eventTooLarge(end - start));
    } else {
      const text = ascii?.slice(start, end) ?? body.toString('utf8', start, end);
      items.push(readValue(body, parseText(text, `The body: event ${items.length}, counted from 0,`), reader));
    }
    if (turns.isOver(end)) await turns.next(end);
  }
  return items;
}

function nextElement(elements: ElementScanner, reader: ItemReader, index: number): boolean {
  reader.begin();
  try {
    return elements.next(reader.visit, eventBytesMax);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const detail = `The body is not a valid JSON array: at event ${index}, counted from 0: ${error.message}.`;
    throw new Problem('invalid_json', detail, { cause: error });
  }
}

async function parseLines(body: Buffer, reader: ItemReader): Promise<BatchItem[]> {
  const ascii = asciiText(body);
  const bodyEnd = trimmedEnd(body);
  const items: BatchItem[] = [];
  const turns = new Turns();
  for (let start = 0; start < bodyEnd;) {
    if (items.length === batchEventsMax) throw tooManyEvents();
    const lineEnd = body.indexOf(lineFeed, start);
    const end = lineEnd < 0 ? bodyEnd : Math.min(lineEnd, bodyEnd);
    items.push(parseLine(body, ascii, start, end, reader));
    if (turns.isOver(end)) await turns.next(end);
    start = end + 1;
  }
  return items;
}

function parseLine(body: Buffer, ascii: string | null, start: number, end: number, reader: ItemReader): BatchItem {
  if (end - start > eventBytesMax) return eventTooLarge(end - start);
  if (ascii === null && !isUtf8(body.subarray(start, end))) return invalidUtf8('The line');
  const text = ascii?.slice(start, end) ?? body.toString('utf8', start, end);
  try {
    const value = parseText(text, 'The line');
    reader.begin();
    if (isObject(value)) scanMembers(body, ascii, body.indexOf(openBrace, start), reader.visit);
    return readValue(body, value, reader);
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
}

function readValue(body: Buffer, value: unknown, reader: ItemReader): BatchItem {
  if (isObject(value)) return reader.read(body, value);
  const message = 'must be a JSON object';
  return new Problem('validation_failed', `The event ${message}.`, { errors: [{ path: '', message }] });
}

/** Shares the loop with other requests. */
class Turns {
  #endsAt = turnBytes;

  isOver(at: number): boolean {
    return at >= this.#endsAt;
  }

  next(at: number): Promise<void> {
    this.#endsAt = at + turnBytes;
    return new Promise((resume) => {
      setImmediate(resume);
    });
  }
}

const lineFeed = 0x0a;
const openBrace = 0x7b;

function asciiText(body: Buffer): string | null {
  return isAscii(body) ? body.toString('latin1') : null;
}

/** Blank lines at the end are no events. */
function trimmedEnd(body: Buffer): number {
  let end = body.length;
  while (
    end > 0 &&
    (body[end - 1] === 0x20 || body[end - 1] === lineFeed || body[end - 1] === 0x0d || body[end - 1] === 0x09)
  )
    end--;
  return end;
}

/** What is no array may still be no JSON, which is said first; unless it is too much to be parsed at once. */
function notAnArray(body: Buffer): Problem {
  if (body.length <= eventBytesMax) parseText(body.toString('utf8'), 'The body');
  return wholeRefused('must be a JSON array of events; send JSON lines with "Content-Type: application/x-ndjson"');
}

function wholeRefused(message: string): Problem {
  return new Problem('validation_failed', `The batch ${message}.`, { errors: [{ path: '', message }] });
}

function tooManyEvents(): Problem {
  return new Problem('batch_too_large', `A batch may have ${batchEventsMax} events at most. Send several.`);
}

function eventTooLarge(bytes: number): Problem {
  const detail = `The event has ${bytes} bytes; at most ${eventBytesMax} are accepted. Store its payload elsewhere and send a reference.`;
  return new Problem('payload_too_large', detail);
}
