/** Arbitrary JSON, made as text rather than by JSON.stringify: every escape, number form and placing of white space that the grammar allows. */
import * as fc from 'fast-check';
import { isWellFormed } from '../../src/text.js';
import { anyCharacter } from '../code-points.js';

const space = fc.string({ unit: fc.constantFrom(' ', '\t', '\n', '\r'), maxLength: 2 });

const shortEscapes = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\b', '\\b'],
  ['\f', '\\f'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
  ['/', '\\/'],
]);

/** One character of a string: as itself where JSON allows that, or in one of its escaped spellings. */
const character = fc
  .tuple(
    fc.oneof(
      anyCharacter,
      fc.constantFrom('"', '\\', '/', '\n', '\0', '{', '}', '[', ']', ',', ':', '😀', 'é', '\ud800', '\udc00'),
    ),
    fc.constantFrom('raw', 'short', 'lower', 'upper'),
  )
  .map(([text, form]) => {
    const short = shortEscapes.get(text);
    if (form === 'short' && short !== undefined) return short;
    if (form === 'raw' && text >= ' ' && text !== '"' && text !== '\\' && isWellFormed(text)) return text;
    return text
      .split('')
      .map((unit) => unitEscape(unit, form === 'upper'))
      .join('');
  });

const stringText = fc.array(character, { maxLength: 8 }).map((parts) => `"${parts.join('')}"`);

const numberText = fc.oneof(
  fc.constantFrom('0', '-0', '1e400', '-1E-400', '12345678901234567890', '0.10', '1e+2', '5.000000000000000000001'),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => JSON.stringify(number)),
);

const scalarText = fc.oneof(stringText, numberText, fc.constantFrom('true', 'false', 'null'));

/** Few names, so that repeated ones are common, also in different spellings. */
const nameText = fc.oneof(
  stringText,
  fc.constantFrom('"a"', '"\\u0061"', '"__proto__"', '"payload"', '"payl\\u006fad"', '""', '"0"', '"type"'),
);

const { value } = fc.letrec<{ value: string; array: string; object: string }>((tie) => ({
  value: fc.oneof({ maxDepth: 4, withCrossShrink: true }, scalarText, tie('array'), tie('object')),
  array: fc.array(fc.tuple(space, tie('value'), space), { maxLength: 4 }).map((items) => `[${joined(items) || ' '}]`),
  object: fc
    .array(fc.tuple(space, nameText, space, fc.constant(':'), space, tie('value'), space), { maxLength: 4 })
    .map((members) => `{${joined(members)}}`),
}));

/** The text of any JSON value, without white space around it. */
export const jsonText = value;

export interface WrittenMember {
  readonly nameText: string;
  readonly valueText: string;
}

/** An object's text, white space around it included, and the members that were written into it. */
export const jsonObjectText = fc
  .tuple(space, fc.array(fc.tuple(space, nameText, space, space, value, space), { maxLength: 6 }), space)
  .map(([before, members, after]) => ({
    text: `${before}{${members.map(([a, name, b, c, inner, d]) => `${a}${name}${b}:${c}${inner}${d}`).join(',')}}${after}`,
    members: members.map(([, name, , , inner]): WrittenMember => ({ nameText: name, valueText: inner })),
  }));

function joined(items: readonly (readonly string[])[]): string {
  return items.map((item) => item.join('')).join(',');
}

function unitEscape(unit: string, upper: boolean): string {
  const digits = unit.charCodeAt(0).toString(16).padStart(4, '0');
  return `\\u${upper ? digits.toUpperCase() : digits}`;
}
