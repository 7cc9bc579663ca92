export type ContentCoding = 'br' | 'gzip';

/** The one that costs less for what it saves first. */
export const contentCodings: readonly ContentCoding[] = ['br', 'gzip'];

/**
 * Which coding a client likes best, the first of equals, by its `Accept-Encoding` (RFC 9110, 12.5.3); null for none, which is also the answer to
 * a client that names none. A coding that it likes less than the plain reply is not taken.
 */
export function preferredCoding(header: string | undefined): ContentCoding | null {
  if (header === undefined) return null;
  const weights = new Map<string, number>();
  for (const part of header.split(',')) {
    const [name = '', ...parameters] = part.split(';').map((text) => text.trim().toLowerCase());
    const weight = parameters.find((parameter) => parameter.startsWith('q='));
    weights.set(name, weight === undefined ? 1 : weightOf(weight.slice(2)));
  }
  const others = weights.get('*');
  let best: ContentCoding | null = null;
  // Where it is not named it is taken, but only if nothing else is.
  let bestWeight = weights.get('identity') ?? 0;
  for (const coding of contentCodings) {
    const weight = weights.get(coding) ?? others ?? 0;
    if (weight > bestWeight || (weight === bestWeight && weight > 0 && best === null))
      [best, bestWeight] = [coding, weight];
  }
  return best;
}

/** What is no weight is none: a plain reply is never wrong. */
function weightOf(text: string): number {
  return /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(text) ? Number(text) : 0;
}
