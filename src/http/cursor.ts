import { createHmac, timingSafeEqual } from 'node:crypto';
import { Problem } from '../errors.js';

/** Signs where a page of a list ended, for the client to hand back. */
export class CursorSigner {
  readonly #secret: Buffer;

  constructor(secret: Buffer) {
    this.#secret = secret;
  }

  /**
   * `binding` is what the list was of: its route, its org, its filters. A cursor works only with the same.
   */
  sign(binding: readonly unknown[], place: readonly (number | string)[]): string {
    const body = Buffer.from(JSON.stringify(place));
    return Buffer.concat([this.#mac(binding, body), body]).toString('base64url');
  }

  /** Throws `invalid_cursor` for what this installation did not sign, or signed for another list. */
  verify(binding: readonly unknown[], cursor: string): readonly (number | string)[] {
    const bytes = Buffer.from(cursor, 'base64url');
    const body = bytes.subarray(macBytes);
    // Canonical base64url only: other spellings of the same bytes are no cursor of ours.
    if (bytes.length <= macBytes || bytes.toString('base64url') !== cursor) throw unusable();
    if (!timingSafeEqual(bytes.subarray(0, macBytes), this.#mac(binding, body))) throw unusable();
    return JSON.parse(body.toString()) as (number | string)[];
  }

  #mac(binding: readonly unknown[], body: Buffer): Buffer {
    return createHmac('sha256', this.#secret)
      .update(JSON.stringify(binding))
      .update('\0')
      .update(body)
      .digest()
      .subarray(0, macBytes);
  }
}

const macBytes = 16;

function unusable(): Problem {
  return new Problem('invalid_cursor', 'This cursor is not of this list and these filters. Start without a cursor.');
}
