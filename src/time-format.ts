/** Times on the wire: RFC 3339, between the years 0001 and 9999 in UTC. Inside, a time is milliseconds since the Unix epoch. */

/** 0001-01-01T00:00:00.000Z */
export const timeMinMs = -62_135_596_800_000;
/** 9999-12-31T23:59:59.999Z */
export const timeMaxMs = 253_402_300_799_999;

/** UTC with milliseconds and a four-digit year: `2026-11-21T10:00:00.000Z`. Throws a RangeError outside of the years 0001 to 9999. */
export function formatTime(ms: number): string {
  // All events of a batch have the same time, and formatting it is a cost that shows.
  if (ms === lastMs) return lastText;
  if (!(ms >= timeMinMs && ms <= timeMaxMs)) throw new RangeError(`no time between the years 0001 and 9999: ${ms}`);
  lastText = new Date(ms).toISOString();
  lastMs = ms;
  return lastText;
}

let lastMs = NaN;
let lastText = '';

/** A time, or why the text is none, as the end of the sentence "the field …". */
export type ParsedTime = { readonly ms: number } | { readonly problem: string };

/**
 * Reads an RFC 3339 date-time: calendar-valid, with a zone (`Z` or `±hh:mm`) and at most 9 fractional digits, which are cut (not rounded) to
 * milliseconds. A leap second is refused, since neither the clock nor the database can tell it from its neighbour.
 */
export function parseTime(text: string): ParsedTime {
  const match = dateTime.exec(text);
  if (match === null) return { problem: 'must be an RFC 3339 time with a zone, like 2026-11-21T10:00:00.000Z' };
  const field = (group: number): number => Number(match[group] ?? 0);
  const [year, month, day, hour, minute, second] = [field(1), field(2), field(3), field(4), field(5), field(6)];
  if (second === 60) return { problem: 'must not be a leap second; send second 59 instead' };
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) {
    return { problem: 'must name a day that is in the calendar' };
  }
  const [zoneHour, zoneMinute] = [field(9), field(10)];
  if (hour > 23 || minute > 59 || second > 59 || zoneHour > 23 || zoneMinute > 59) {
    return { problem: 'must have hours of 00 to 23, minutes and seconds of 00 to 59, also in its zone' };
  }
  const millisecond = Number((match[7] ?? '').slice(0, 3).padEnd(3, '0'));
  const offsetMs = (match[8] === '-' ? -1 : 1) * (zoneHour * 60 + zoneMinute) * 60_000;
  // Date.UTC takes the years 0 to 99 for 1900 to 1999; the calendar repeats every 400 years, so it is asked about a later one.
  const ms = Date.UTC(year + 400, month - 1, day, hour, minute, second, millisecond) - fourHundredYearsMs - offsetMs;
  if (ms < timeMinMs || ms > timeMaxMs) return { problem: 'must be between the years 0001 and 9999 in UTC' };
  return { ms };
}

const dateTime = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;
const fourHundredYearsMs = 146_097 * 86_400_000;

function daysInMonth(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}
