/**
 * Crockford's base32 (https://www.crockford.com/base32.html) in its one canonical spelling: upper case, no hyphens, no check digit. Its
 * digits are in ASCII order, so texts of one length sort as their numbers do.
 */
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

const digitCodes = Uint8Array.from(alphabet, (digit) => digit.charCodeAt(0));
const digitValues = new Int8Array(128).fill(-1);
for (const [value, digitCode] of digitCodes.entries()) digitValues[digitCode] = value;

/** The two digits of a number below 2^10. */
export function twoDigits(value: number): string {
  return String.fromCharCode(code(value >>> 5), code(value));
}

/** The four digits of a number below 2^20. */
export function fourDigits(value: number): string {
  return String.fromCharCode(code(value >>> 15), code(value >>> 10), code(value >>> 5), code(value));
}

/** The eight digits of a number below 2^40. One call of fromCharCode: joining single digits takes four times as long. */
export function eightDigits(value: number): string {
  const high = Math.floor(value / 2 ** 20);
  const low = value % 2 ** 20;
  return String.fromCharCode(
    code(high >>> 15),
    code(high >>> 10),
    code(high >>> 5),
    code(high),
    code(low >>> 15),
    code(low >>> 10),
    code(low >>> 5),
    code(low),
  );
}

/** The number that `count` digits (at most 10) from `start` spell, or -1 if one of them is missing or not canonical. */
export function readDigits(text: string, start: number, count: number): number {
  let number = 0;
  for (let at = start; at < start + count; at++) {
    const value = digitValues[text.charCodeAt(at)] ?? -1;
    if (value < 0) return -1;
    number = number * 32 + value;
  }
  return number;
}

/** The digit of the lowest five bits. */
function code(value: number): number {
  return digitCodes[value & 31]!;
}
