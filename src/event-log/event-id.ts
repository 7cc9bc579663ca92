/**
 * An event's id is its address in the log: 140 bits, most significant first, as `evt_` and 28 digits of Crockford base32.
 *
 *   org 48 | epoch 24 | position 48 | day 20
 *
 * So an event is found by primary key in one partition, and the ids of an org sort in log order. The day says which partition; it follows
 * the position, so it never decides the order.
 */
import { eightDigits, fourDigits, readDigits } from '../base32.js';
import { orgNumber } from '../ids.js';

export interface EventAddress {
  /** Decimal digits, as the database gives an int8; below 2^48. */
  readonly org: string;
  /** Raised whenever positions might be reused; below 2^24. */
  readonly epoch: number;
  /** The event's place in its org's log; below 2^48. */
  readonly position: number;
  /** Days since 1970-01-01; below 2^20. */
  readonly day: number;
}

/** Throws a RangeError if a part of the address does not fit its bits. */
export function encodeEventId({ org, epoch, position, day }: EventAddress): string {
  const number = orgNumber(org);
  if (!isBelow(epochEnd, epoch) || !isBelow(positionEnd, position) || !isBelow(dayEnd, day)) {
    throw new RangeError(`no event address: epoch ${epoch}, position ${position}, day ${day}`);
  }
  const orgHigh = Math.floor(number / 2 ** 8);
  const orgLow = number % 2 ** 8;
  const positionHigh = Math.floor(position / 2 ** 40);
  const positionLow = position % 2 ** 40;
  const middle = orgLow * 2 ** 32 + epoch * 2 ** 8 + positionHigh;
  return 'evt_' + eightDigits(orgHigh) + eightDigits(middle) + eightDigits(positionLow) + fourDigits(day);
}

/** The address that an id names, or null if the text is not the canonical spelling of one. Whether the event exists is not asked. */
export function decodeEventId(text: string): EventAddress | null {
  if (text.length !== eventIdChars || !text.startsWith('evt_')) return null;
  const orgHigh = readDigits(text, 4, 8);
  const middle = readDigits(text, 12, 8);
  const positionLow = readDigits(text, 20, 8);
  const day = readDigits(text, 28, 4);
  if (orgHigh < 0 || middle < 0 || positionLow < 0 || day < 0) return null;
  return {
    org: String(orgHigh * 2 ** 8 + Math.floor(middle / 2 ** 32)),
    epoch: Math.floor(middle / 2 ** 8) % 2 ** 24,
    position: (middle % 2 ** 8) * 2 ** 40 + positionLow,
    day,
  };
}

const eventIdChars = 32;
const epochEnd = 2 ** 24;
const positionEnd = 2 ** 48;
const dayEnd = 2 ** 20;

function isBelow(end: number, value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < end;
}
