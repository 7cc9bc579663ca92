import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { Identity } from '../admission/authenticate.js';
import { Problem } from '../errors.js';
import { hasBody } from './admit.js';
import type { BodyLimit } from './route.js';

/** Bytes of large bodies that are being received or worked on, on all connections, and how many of them one org may have. */
const heldBytesMax = 256 * 1024 * 1024;
const orgBytesMax = 128 * 1024 * 1024;

/** Bounds the memory of bodies on routes that take large ones: thousands of connections may send at once, and slowly. */
export class BodyBudget {
  #held = 0;
  readonly #byOrg = new Map<string, number>();

  /** Makes room for a body before it is read, until the response is closed. Throws `overloaded` where there is none. */
  reserve(response: ServerResponse, identity: Identity | null, headers: IncomingHttpHeaders, limit: BodyLimit): void {
    if (!hasBody(headers)) return;
    const announced = headers['content-length'];
    // In chunks it may become as large as it can.
    this.count(response, identity, announced === undefined ? limit.bytesMax : Number(announced));
  }

  /** The same for bytes that are there: what a compressed body has become. */
  count(response: ServerResponse, identity: Identity | null, bytes: number): void {
    if (response.destroyed) return;
    const org = identity?.org ?? '';
    const ofOrg = this.#byOrg.get(org) ?? 0;
    if (this.#held + bytes > heldBytesMax || ofOrg + bytes > orgBytesMax) {
      const detail = 'Too many large bodies are being received. Send fewer at once, or smaller ones.';
      throw new Problem('overloaded', detail, { retryAfterSeconds: 1 });
    }
    this.#add(org, bytes);
    response.once('close', () => this.#add(org, -bytes));
  }

  #add(org: string, bytes: number): void {
    this.#held += bytes;
    const ofOrg = (this.#byOrg.get(org) ?? 0) + bytes;
    if (ofOrg === 0) this.#byOrg.delete(org);
    else this.#byOrg.set(org, ofOrg);
  }
}
