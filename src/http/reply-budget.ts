import type { ServerResponse } from 'node:http';
import { Problem } from '../errors.js';

/** Bytes of replies that clients have not read yet, on all connections. */
const heldBytesMax = 256 * 1024 * 1024;
/** Replies below this are not counted: the number of connections bounds them. */
const countedBytesMin = 64 * 1024;

/**
 * Bounds the memory that replies take. A client that asks over and over and never reads would otherwise fill it: Node begins every request that
 * is pipelined on a connection at once.
 */
export class ReplyBudget {
  #held = 0;

  get heldBytes(): number {
    return this.#held;
  }

  /** Makes room for a reply of up to `bytesMax`, until the response is closed. Throws `overloaded` where there is none. */
  reserve(response: ServerResponse, bytesMax: number): void {
    if (this.#held + bytesMax > heldBytesMax) {
      const detail = 'Too many large replies are waiting to be read. Read them, or ask for fewer at once.';
      throw new Problem('overloaded', detail, { retryAfterSeconds: 1 });
    }
    this.#hold(response, bytesMax);
  }

  /** Counts a reply for which no room was reserved. */
  count(response: ServerResponse, bytes: number): void {
    if (bytes >= countedBytesMin) this.#hold(response, bytes);
  }

  #hold(response: ServerResponse, bytes: number): void {
    if (response.destroyed) return;
    this.#held += bytes;
    response.once('close', () => {
      this.#held -= bytes;
    });
  }
}
