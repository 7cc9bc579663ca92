/**
 * Finds where the top-level members of a JSON object, or of the objects of a JSON array, lie in its bytes, so that a value can be kept exactly as
 * it was sent: number precision, key order, repeated keys and white space inside it.
 *
 * The scanner does not validate values. It relies on `JSON.parse` accepting the text of each, and then needs only quotes, backslashes and brackets to
 * know where a value ends. It keeps no stack (a valid text closes what it opens), so depth costs nothing and time is linear in the bytes.
 */

/** Told of each member in the order sent, repeated names included. */
export type VisitMember = (name: string, start: number, end: number, depth: number) => void;

export interface Member {
  /** The name with its escapes resolved. */
  readonly name: string;
  /** The value's first byte. */
  readonly start: number;
  /** The byte after the value's last; `body.subarray(start, end)` has no white space around it. */
  readonly end: number;
  /** Levels of nesting in the value: a scalar 0, `[]` and `{"a":1}` 1, `[[]]` 2. */
  readonly depth: number;
}

/**
 * Visits the members of the object in `body`, in the order sent, repeated names included. `ascii` is as in `scanMembers`. `JSON.parse` must have accepted
 * the text as an object; for anything else the call ends, but with a SyntaxError or visits that mean nothing.
 */
export function visitObject(body: Buffer, ascii: string | null, visit: VisitMember): void {
  scanMembers(body, ascii, skipSpace(body, 0), visit);
}

/** The same as a list. `text` is `body` decoded. */
export function scanObject(body: Buffer, text: string): Member[] {
  const members: Member[] = [];
  visitObject(body, text.length === body.length ? text : null, (name, start, end, depth) => {
    members.push({ name, start, end, depth });
  });
  return members;
}

/**
 * Visits the members of the object that opens at `from`, and returns the byte after its closing brace, or -1 if there is none. `ascii` is the text of
 * `body` if all of it is ASCII (then the offsets of bytes and characters agree, and a piece of the text costs a tenth of decoding bytes). A member
 * that begins `visitedBytesMax` behind `from` or later is passed over. Of what `JSON.parse` would refuse, the visits mean nothing, and a SyntaxError may
 * be thrown.
 */
export function scanMembers(
  body: Buffer,
  ascii: string | null,
  from: number,
  visit: VisitMember,
  visitedBytesMax = Infinity,
): number {
  let at = from + 1;
  for (;;) {
    at = skipSpace(body, at);
    if (body[at] === comma) at = skipSpace(body, at + 1);
    if (body[at] !== quote) return body[at] === closeBrace ? at + 1 : -1;
    const nameStart = at + 1;
    const nameEnd = stringEnd(body, at) - 1;
    const start = skipSpace(body, skipSpace(body, nameEnd + 1) + 1);
    // As `valueEnd`, with the depth.
    let depth = 0;
    let open = 0;
    at = start;
    do {
      const byte = body[at];
      if (byte === quote) {
        at = stringEnd(body, at);
      } else if (byte === openBrace || byte === openBracket) {
        if (++open > depth) depth = open;
        at++;
      } else if (byte === closeBrace || byte === closeBracket) {
        open--;
        at++;
      } else {
        at = plainEnd(body, at);
      }
    } while (open > 0 && at < body.length);
    if (nameStart - from > visitedBytesMax) continue;
    const name = unescaped(ascii?.slice(nameStart, nameEnd) ?? body.toString('utf8', nameStart, nameEnd));
    visit(name, start, at, depth);
  }
}

/**
 * Walks over the elements of a JSON array, one a call of `next`, and validates what stands between them. So the text is a JSON array if and only if
 * `next` came to the end and `JSON.parse` accepts the text of every element: nobody has to parse the whole at once.
 */
export class ElementScanner {
  readonly #body: Buffer;
  readonly #ascii: string | null;
  #began = false;
  /** Of the element that `next` found: its first byte, and the byte after its last. */
  start = 0;
  end = 0;

  /** `ascii` is the text of `body` if all of it is ASCII, else null. */
  constructor(body: Buffer, ascii: string | null) {
    this.#body = body;
    this.#ascii = ascii;
  }

  /** Whether `body` may be an array at all: its first byte that is no white space opens one. */
  get opensArray(): boolean {
    return this.#body[skipJsonSpace(this.#body, 0)] === openBracket;
  }

  /**
   * True if there is an element, whose members, if it is an object, were visited as `scanMembers` does; false at the end of the array. Throws a
   * SyntaxError where the text cannot be a JSON array, and must not be called again after that.
   */
  next(visit: VisitMember, visitedBytesMax: number): boolean {
    const body = this.#body;
    let at = skipJsonSpace(body, this.end);
    if (!this.#began) {
      if (body[at] !== openBracket) throw new SyntaxError('not an array');
      this.#began = true;
      at = skipJsonSpace(body, at + 1);
      if (body[at] === closeBracket) return this.#atEnd(at + 1);
    } else if (body[at] === comma) {
      at = skipJsonSpace(body, at + 1);
    } else if (body[at] === closeBracket) {
      return this.#atEnd(at + 1);
    } else {
      throw new SyntaxError('neither a comma nor the end of the array');
    }
    this.start = at;
    this.end = body[at] === openBrace ? scanMembers(body, this.#ascii, at, visit, visitedBytesMax) : valueEnd(body, at);
    if (this.end < 0) throw new SyntaxError('an object that does not end');
    return true;
  }

  #atEnd(at: number): false {
    if (skipJsonSpace(this.#body, at) < this.#body.length) throw new SyntaxError('more behind the array');
    return false;
  }
}

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;

/** JSON's white space is four bytes, and a valid text has no other byte below 0x21 outside of its strings. */
function skipSpace(body: Buffer, from: number): number {
  let at = from;
  while (body[at]! <= 0x20) at++;
  return at;
}

/** As `skipSpace`, where nobody has said that the text is valid. */
function skipJsonSpace(body: Buffer, from: number): number {
  let at = from;
  while (body[at] === 0x20 || body[at] === 0x0a || body[at] === 0x0d || body[at] === 0x09) at++;
  return at;
}

/** The byte after the value that starts at `from`; what is no value has an end, too. */
function valueEnd(body: Buffer, from: number): number {
  let at = from;
  let open = 0;
  do {
    const byte = body[at];
    if (byte === quote) {
      at = stringEnd(body, at);
    } else if (byte === openBrace || byte === openBracket) {
      open++;
      at++;
    } else if (byte === closeBrace || byte === closeBracket) {
      open--;
      at++;
    } else {
      at = plainEnd(body, at);
    }
  } while (open > 0 && at < body.length);
  return at;
}

/** The byte after the closing quote of the string that opens at `from`: the first one behind an even number of backslashes. */
function stringEnd(body: Buffer, from: number): number {
  let at = from;
  for (;;) {
    at = body.indexOf(quote, at + 1);
    if (at < 0) return body.length;
    let before = at - 1;
    while (body[before] === backslash) before--;
    if ((at - before) % 2 === 1) return at + 1;
  }
}

function unescaped(raw: string): string {
  if (!raw.includes('\\')) return raw;
  const name: string = JSON.parse(`"${raw}"`);
  return name;
}

/** 1 for the bytes at which a number, `true`, `false`, `null`, a comma or a colon has ended. */
const delimits = new Uint8Array(256).fill(1, 0, 0x21);
for (const byte of [quote, comma, openBrace, closeBrace, openBracket, closeBracket]) delimits[byte] = 1;

/** The byte after the run of others than quotes and brackets that starts at `from`. */
function plainEnd(body: Buffer, from: number): number {
  let at = from + 1;
  while (at < body.length && delimits[body[at]!] === 0) at++;
  return at;
}
