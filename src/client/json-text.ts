/**
 * Finds the text of values in JSON text, for what `JSON.parse` loses: the precision of numbers, the order and repetition of keys, white space.
 *
 * Nothing here validates: `JSON.parse` must have accepted the text. Then quotes, backslashes and brackets tell where a value ends. Time is
 * linear in the text.
 */

/** The values of an object's members by name, each as its text without space around it. Of repeated names the last one counts, as for `JSON.parse`. */
export function memberTexts(object: string): Map<string, string> {
  const members = new Map<string, string>();
  let at = skipSpace(object, skipSpace(object, 0) + 1);
  while (object[at] === '"') {
    const nameEnd = stringEnd(object, at);
    const name = JSON.parse(object.slice(at, nameEnd)) as string;
    const start = skipSpace(object, skipSpace(object, nameEnd) + 1);
    const end = valueEnd(object, start);
    members.set(name, object.slice(start, end));
    at = skipComma(object, end);
  }
  return members;
}

/** The values of an array, each as its text without space around it. */
export function elementTexts(array: string): string[] {
  const elements: string[] = [];
  let at = skipSpace(array, skipSpace(array, 0) + 1);
  while (at < array.length && array[at] !== ']') {
    const end = valueEnd(array, at);
    elements.push(array.slice(at, end));
    at = skipComma(array, end);
  }
  return elements;
}

/** The index after the value that starts at `start`. */
function valueEnd(text: string, start: number): number {
  let at = start;
  let open = 0;
  do {
    const character = text[at];
    if (character === '"') at = stringEnd(text, at);
    else if (character === '{' || character === '[') {
      open++;
      at++;
    } else if (character === '}' || character === ']') {
      open--;
      at++;
    } else at = plainEnd(text, at);
  } while (open > 0 && at < text.length);
  return at;
}

/** The index after the closing quote of the string that opens at `start`: the first one behind an even number of backslashes. */
function stringEnd(text: string, start: number): number {
  let at = start;
  for (;;) {
    at = text.indexOf('"', at + 1);
    if (at < 0) return text.length;
    let before = at - 1;
    while (text[before] === '\\') before--;
    if ((at - before) % 2 === 1) return at + 1;
  }
}

/** The index after the run of others than quotes, brackets, commas and white space that starts at `start`. */
function plainEnd(text: string, start: number): number {
  plain.lastIndex = start + 1;
  return plain.exec(text)?.index ?? text.length;
}

const plain = /["{}[\],\s]/g;

function skipSpace(text: string, start: number): number {
  let at = start;
  while (text.charCodeAt(at) <= 0x20) at++;
  return at;
}

function skipComma(text: string, start: number): number {
  const at = skipSpace(text, start);
  return text[at] === ',' ? skipSpace(text, at + 1) : at;
}
