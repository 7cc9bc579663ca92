import * as fc from 'fast-check';

/** One character of any Unicode code point, unpaired surrogates included. */
export const anyCharacter = fc
  .oneof(fc.nat(0x7f), fc.nat(0xffff), fc.nat(0x10ffff))
  .map((codePoint) => String.fromCodePoint(codePoint));
