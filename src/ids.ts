/**
 * The public spelling of ids other than an event's: a prefix and Crockford base32. Each id has one spelling; any other text decodes to
 * null, which the caller answers as an id that does not exist.
 */
import { eightDigits, readDigits, twoDigits } from './base32.js';
import { readDecimal } from './decimal.js';

/** Org numbers have 48 bits, so they are exact as JavaScript numbers too. */
export const orgNumberMax = 2 ** 48 - 1;

/** `org_` and 10 digits for an org number. Throws a RangeError if `org` is not decimal digits of a number below 2^48. */
export function encodeOrgId(org: string): string {
  const number = orgNumber(org);
  return `org_${twoDigits(Math.floor(number / 2 ** 40))}${eightDigits(number % 2 ** 40)}`;
}

/** The org number in decimal digits, or null. */
export function decodeOrgId(text: string): string | null {
  if (text.length !== orgIdChars || !text.startsWith('org_')) return null;
  const number = readDigits(text, 4, 10);
  return number < 0 || number > orgNumberMax ? null : String(number);
}

/** Reads an org number, which the database gives as decimal digits. Throws a RangeError if it is none, or not below 2^48. */
export function orgNumber(org: string): number {
  const number = readDecimal(org);
  if (number < 0 || number > orgNumberMax) throw new RangeError(`not an org number: ${org}`);
  return number;
}

/** For sorting: as the database orders orgs, and as every batch takes its locks. Both in decimal digits. */
export function compareOrgs(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}

export type RandomIdPrefix = 'ers' | 'key' | 'lse' | 'whk';

/** The prefix, `_` and 26 digits for 16 bytes. Throws a RangeError for another number of bytes. */
export function encodeRandomId(prefix: RandomIdPrefix, bytes: Buffer): string {
  if (bytes.length !== randomIdBytes) throw new RangeError(`an id has ${randomIdBytes} bytes, not ${bytes.length}`);
  let id = `${prefix}_${twoDigits(bytes.readUInt8(0))}`;
  for (let at = 1; at < randomIdBytes; at += 5) id += eightDigits(bytes.readUIntBE(at, 5));
  return id;
}

/** The 16 bytes of an id with this prefix, or null. */
export function decodeRandomId(prefix: RandomIdPrefix, text: string): Buffer | null {
  if (text.length !== randomIdChars || !text.startsWith(`${prefix}_`)) return null;
  const bytes = Buffer.allocUnsafe(randomIdBytes);
  const first = readDigits(text, 4, 2);
  if (first < 0 || first > 255) return null;
  bytes.writeUInt8(first, 0);
  for (let at = 1, digit = 6; at < randomIdBytes; at += 5, digit += 8) {
    const fortyBits = readDigits(text, digit, 8);
    if (fortyBits < 0) return null;
    bytes.writeUIntBE(fortyBits, at, 5);
  }
  return bytes;
}

const orgIdChars = 14;
const randomIdBytes = 16;
const randomIdChars = 30;
