/** Request bodies as JSON objects: what every route refuses before it looks at its own fields. */
import { isAscii, isUtf8 } from 'node:buffer';
import { invalid, Problem, type FieldError } from '../errors.js';
import { toWellFormed, unstorable } from '../text.js';
import { visitObject, type Member, type VisitMember } from './json-scanner.js';

/** Errors of one kind that a reply lists; a body can hold tens of thousands. */
export const fieldErrorsMax = 10;

/**
 * The fields of a request body, as an object without prototype (so that `__proto__` is a name like any other). Refuses with a `Problem`:
 * `invalid_utf8` and `invalid_json` (400); a body that is no object, repeated top-level names (compared unescaped), and a NUL or an
 * unpaired surrogate in any string or name at any depth (422).
 */
export function parseJsonBody(body: Buffer): Record<string, unknown> {
  const { fields, members } = parseObject(body);
  const errors = [...repeatedNames(members), ...unstorableStrings(body, fields)];
  if (errors.length > 0) throw invalid(...errors);
  const bare: Record<string, unknown> = Object.create(null);
  return Object.assign(bare, fields);
}

/** An object as `JSON.parse` reads it, and where its members lie. Of a repeated name, `fields` has the last value. */
export interface ParsedObject {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly members: readonly Member[];
}

/** Refuses what is not UTF-8, not JSON (400) or not an object (422); repeated names are left to the caller. */
export function parseObject(body: Buffer): ParsedObject {
  const members: Member[] = [];
  const fields = parseMembers(body, (name, start, end, depth) => {
    members.push({ name, start, end, depth });
  });
  return { fields, members };
}

/** The same, with `visit` told of each member. */
export function parseMembers(body: Buffer, visit: VisitMember): ParsedObject['fields'] {
  const isPlain = isAscii(body);
  if (!isPlain && !isUtf8(body)) throw invalidUtf8('The body');
  const text = body.toString(isPlain ? 'latin1' : 'utf8');
  const value = parseText(text, 'The body');
  if (!isObject(value)) {
    const message = 'must be a JSON object';
    throw new Problem('validation_failed', `The body ${message}.`, { errors: [{ path: '', message }] });
  }
  visitObject(body, isPlain ? text : null, visit);
  return value;
}

/** The JSON Pointer (RFC 6901) of a top-level field, cut where a client's name is too long to be read. */
export function fieldPath(name: string): string {
  const shown = name.length > nameShownMax ? `${name.slice(0, nameShownMax)}…` : name;
  return `/${toWellFormed(shown).replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

export const repeatedMessage = 'appears more than once; send it once';

const nameShownMax = 64;
/** The quoted piece with the words around it. */
const jsonEchoMax = 60;
const printable = /^[ -~]{1,160}$/;

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `JSON.parse`, which refuses with `invalid_json`. `what` begins the sentence. */
export function parseText(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Problem('invalid_json', `${what} is not valid JSON: ${reason(String(error))}.`, { cause: error });
  }
}

export function invalidUtf8(what: string): Problem {
  return new Problem('invalid_utf8', `${what} has bytes that are not UTF-8. Send JSON encoded as UTF-8.`);
}

/** What `JSON.parse` says, without the piece of the body that it may quote if that piece is long or not plain ASCII. */
function reason(error: string): string {
  const message = error.replace(/^SyntaxError: /, '');
  const quoteAt = message.indexOf(', ');
  const bare = quoteAt < 0 ? message : message.slice(0, quoteAt);
  const shown = message.length - bare.length > jsonEchoMax || !printable.test(message) ? bare : message;
  return printable.test(shown) ? shown : 'unexpected character';
}

function repeatedNames(members: readonly Member[]): FieldError[] {
  const seen = new Set<string>();
  const repeated = new Set<string>();
  for (const { name } of members) {
    if (seen.has(name)) repeated.add(name);
    else seen.add(name);
    if (repeated.size === fieldErrorsMax) break;
  }
  return Array.from(repeated, (name) => ({ path: fieldPath(name), message: repeatedMessage }));
}

/** Only an escape can write NUL or an unpaired surrogate into UTF-8 JSON, so a body without one needs no walk. */
function unstorableStrings(body: Buffer, fields: Readonly<Record<string, unknown>>): FieldError[] {
  if (!body.includes('\\u')) return [];
  const errors: FieldError[] = [];
  for (const [name, value] of Object.entries(fields)) {
    const problem = firstUnstorable([name, value]);
    if (problem !== null) errors.push({ path: fieldPath(name), message: problem });
    if (errors.length === fieldErrorsMax) break;
  }
  return errors;
}

/** The first fault in the strings and names below `root`. Its own stack, since a body may nest deeper than calls can. */
function firstUnstorable(root: unknown): string | null {
  const left = [root];
  while (left.length > 0) {
    const value = left.pop();
    if (typeof value === 'string') {
      const problem = unstorable(value);
      if (problem !== null) return problem;
    } else if (typeof value === 'object' && value !== null) {
      for (const [name, inner] of Object.entries(value)) {
        left.push(inner);
        if (!Array.isArray(value)) left.push(name);
      }
    }
  }
  return null;
}
