import { createHash } from 'node:crypto';
import type { NewEvent } from '../../../src/event-log/new-event.js';
import { newEvent } from '../event-log.js';

/** What everything about an event follows from, so that a trace need hold only its number. */
export interface TracedEvent {
  readonly token: string;
  readonly payload: string;
  readonly dedupId: string | null;
  /** The storage must refuse it: its payload is not text. */
  readonly isPoison: boolean;
}

export function tracedEvent(number: number): TracedEvent {
  const hash = createHash('sha256').update(String(number)).digest();
  const token = hash.toString('hex', 0, 12);
  // Most are small; some cross the pages of the log and of the table. It does not compress, so the size is what is stored.
  const bytes = hash.readUInt8(13) < 12 ? hash.readUInt16LE(14) % 30_000 : hash.readUInt8(14);
  const padding = incompressible(number, bytes);
  return {
    token,
    payload: `{ "token": "${token}",\t"n":1.50e+1 , "padding":"${padding}\\u00e9é" }`,
    dedupId: hash.readUInt8(16) % 3 === 0 ? `id ${token}` : null,
    isPoison: hash.readUInt8(17) < 2,
  };
}

export function toNewEvent(org: string, { payload, dedupId, isPoison }: TracedEvent): NewEvent {
  const event = newEvent(org, payload, dedupId);
  return isPoison ? { ...event, payload: Buffer.from([0x22, 0xff, 0x22]) } : event;
}

function incompressible(number: number, bytes: number): string {
  let text = '';
  for (let block = 0; text.length < bytes; block++) {
    text += createHash('sha512').update(`${number} ${block}`).digest('base64');
  }
  return text.slice(0, bytes);
}
