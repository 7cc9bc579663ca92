import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { ElementScanner } from '../../src/ingest/json-scanner.js';
import { jsonObjectText, jsonText } from './json-texts.js';

interface Found {
  readonly text: string;
  readonly members: readonly (readonly [name: string, valueText: string])[];
}

/** All elements of `text`, or null if it cannot be an array. */
function scan(text: string | Buffer, visitedBytesMax = Infinity): Found[] | null {
  const body = Buffer.from(text);
  const isAscii = body.every((byte) => byte < 0x80);
  const elements = new ElementScanner(body, isAscii ? body.toString('latin1') : null);
  const found: Found[] = [];
  let members: [string, string][] = [];
  const visit = (name: string, start: number, end: number): void => {
    members.push([name, body.toString('utf8', start, end)]);
  };
  try {
    while (elements.next(visit, visitedBytesMax)) {
      found.push({ text: body.toString('utf8', elements.start, elements.end), members });
      members = [];
    }
  } catch (error) {
    assert.ok(error instanceof SyntaxError, String(error));
    return null;
  }
  return found;
}

/** What the batch route makes of it: the scanner between the elements, `JSON.parse` inside. */
function accepts(text: string): boolean {
  const found = scan(text);
  return found !== null && found.every((element) => parses(element.text));
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const space = fc.string({ unit: fc.constantFrom(' ', '\t', '\n', '\r'), maxLength: 2 });
const elementText = fc.oneof(
  jsonText.map((text) => ({ text, members: null })),
  jsonObjectText.map(({ text, members }) => ({ text, members })),
);
const written = fc.tuple(space, fc.array(fc.tuple(space, elementText, space), { maxLength: 6 }), space, space);
const arrayText = written.map(([before, elements, inner, after]) => ({
  text: `${before}[${elements.map(([a, { text }, b]) => a + text + b).join(',') || inner}]${after}`,
  elements: elements.map(([, element]) => element),
}));

void test('on any array, the elements and their members are those written, byte for byte', () => {
  fc.assert(
    fc.property(arrayText, ({ text, elements }) => {
      const found = scan(text);
      assert.deepEqual(
        found?.map((element) => element.text),
        elements.map((element) => element.text.replaceAll(/^[ \t\n\r]+|[ \t\n\r]+$/g, '')),
      );
      for (const [i, { members }] of elements.entries()) {
        if (members === null) continue;
        assert.deepEqual(
          found?.[i]?.members,
          members.map(({ nameText, valueText }) => [JSON.parse(nameText), valueText]),
        );
      }
    }),
    { numRuns: 1000 },
  );
});

void test('elements that parse between commas are an array, and an array is nothing else', () => {
  const pieces = fc.array(
    fc.constantFrom(...'[]{},:"\\ \n\v\0a1'.split(''), '{}', '""', '"a":', 'null', '1,', '[1]', '\ufeff'),
    {
      maxLength: 12,
    },
  );
  const broken = fc
    .tuple(arrayText, fc.nat(), fc.nat(2), fc.constantFrom(...'[]{},:"\\ 1'.split('')))
    .map(([{ text }, at, removed, added]) => {
      const cut = at % (text.length + 1);
      return text.slice(0, cut) + added + text.slice(cut + removed);
    });
  const texts = fc.oneof(
    pieces.map((parts) => parts.join('')),
    pieces.map((parts) => `[${parts.join('')}]`),
    broken,
  );
  let arrays = 0;
  fc.assert(
    fc.property(texts, (text) => {
      const isArray = parses(text) && Array.isArray(JSON.parse(text));
      if (isArray) arrays++;
      assert.equal(accepts(text), isArray);
    }),
    { numRuns: 5000 },
  );
  assert.ok(arrays > 100, `only ${arrays} of the texts were arrays`);
});

void test('the scan ends on bytes that are no JSON at all', () => {
  const bytes = fc.oneof(
    fc.array(fc.nat(255), { maxLength: 60 }),
    fc.array(fc.constantFrom(...Buffer.from('{}[]",:\\ a1')), { maxLength: 60 }),
  );
  fc.assert(
    fc.property(bytes, (some) => {
      scan(Buffer.from(some));
      scan(Buffer.from([0x5b, ...some]));
    }),
    { numRuns: 1000 },
  );
});

void test('members that begin behind the limit are passed over, and the element still ends where it ends', () => {
  const found = scan('[{"a":1,"b":[2],"c":3},{"d":4}]', 8);
  assert.deepEqual(found, [
    {
      text: '{"a":1,"b":[2],"c":3}',
      members: [
        ['a', '1'],
        ['b', '[2]'],
      ],
    },
    { text: '{"d":4}', members: [['d', '4']] },
  ]);
});
