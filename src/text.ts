/**
 * Facts about strings that decide whether a database can keep them. Lengths are counted in characters (Unicode code points), as
 * PostgreSQL counts them, not in UTF-16 units.
 */

declare global {
  /** Node has had both methods since version 20; the ES2023 library does not declare them. */
  interface String {
    isWellFormed(): boolean;
    toWellFormed(): string;
  }
}

/** True if every surrogate is paired. All unpaired ones encode to the same UTF-8 bytes, so they must not be stored as text. */
export function isWellFormed(text: string): boolean {
  return text.isWellFormed();
}

/** The text with each unpaired surrogate replaced by U+FFFD, for showing it. */
export function toWellFormed(text: string): string {
  return text.toWellFormed();
}

/** What keeps `text` out of a text column, as the end of the sentence "the field …"; null if it can be stored. */
export function unstorable(text: string): string | null {
  if (text.includes('\0')) return 'must not contain the character NUL (\\u0000)';
  if (!isWellFormed(text)) return 'must not contain an unpaired surrogate (\\ud800 to \\udfff outside of a pair)';
  return null;
}

/** True if `text` has more than `max` code points. Looks at no more than `2 * max` UTF-16 units. */
export function isLongerThan(text: string, max: number): boolean {
  if (text.length <= max) return false;
  if (text.length > 2 * max) return true;
  return Array.from(text).length > max;
}
