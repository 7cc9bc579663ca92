import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { Identity } from '../admission/authenticate.js';
import { Problem } from '../errors.js';
import { hasBody } from './admit.js';
import type { BodyLimit } from './route.js';

/** Bytes of bodies that are being received or worked on, on all connections, and how many of them one org may have. */
const heldBytesMax = 256 * 1024 * 1024;
export const orgBytesMax = 128 * 1024 * 1024;
/** Bodies below this are not counted: the number of connections bounds them. */
const countedBytesMin = 16 * 1024;

/** What one request holds, until its response is closed. */
export interface BodyRoom {
  /** The size of its body, once it is there as it will be worked on. Throws `overloaded` where there is no room for it. */
  arrived(bytes: number): void;
}

/** Bounds the memory of bodies: thousands of connections may send at once, and slowly. */
export class BodyBudget {
  #held = 0;
  readonly #byOrg = new Map<string, number>();

  get heldBytes(): number {
    return this.#held;
  }

  /** Makes room for a body before it is read. Throws `overloaded` where there is none. Null: none is needed. */
  reserve(
    response: ServerResponse,
    identity: Identity | null,
    headers: IncomingHttpHeaders,
    limit: BodyLimit,
  ): BodyRoom | null {
    if (!hasBody(headers) || response.destroyed) return null;
    const announced = headers['content-length'];
    // In chunks it may become as large as it can; so may a compressed one, once it is decompressed.
    const bytes = announced === undefined ? limit.bytesMax : Number(announced);
    if (bytes < countedBytesMin && headers['content-encoding'] === undefined) return null;
    const org = identity?.org ?? '';
    let held = 0;
    const hold = (now: number): void => {
      if (now > held) this.#requireRoom(org, now - held);
      this.#add(org, now - held);
      held = now;
    };
    hold(bytes);
    response.once('close', () => hold(0));
    return {
      arrived: (size) => {
        if (!response.destroyed) hold(size);
      },
    };
  }

  #requireRoom(org: string, bytes: number): void {
    if (this.#held + bytes <= heldBytesMax && (this.#byOrg.get(org) ?? 0) + bytes <= orgBytesMax) return;
    const detail = 'Too many large bodies are being received. Send fewer at once, or smaller ones.';
    throw new Problem('overloaded', detail, { retryAfterSeconds: 1 });
  }

  #add(org: string, bytes: number): void {
    this.#held += bytes;
    const ofOrg = (this.#byOrg.get(org) ?? 0) + bytes;
    if (ofOrg === 0) this.#byOrg.delete(org);
    else this.#byOrg.set(org, ofOrg);
  }
}
