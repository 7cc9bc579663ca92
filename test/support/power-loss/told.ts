import type { Sending } from '../../promises/ledger.js';
import { tracedEvent } from './events.js';
import type { Note } from './trace.js';

export interface Known {
  readonly sendings: ReadonlyMap<number, Sending>;
  /** Org → positions. */
  readonly consumed: ReadonlyMap<string, ReadonlySet<number>>;
}

/** What a client knows at one moment of a trace. */
export class Ledger implements Known {
  readonly sendings = new Map<number, Sending>();
  readonly consumed = new Map<string, Set<number>>();

  hear(note: Note): void {
    switch (note.op) {
      case 'sending':
        // Until it is answered, it may be stored or not.
        for (const number of note.events) {
          const known = this.sendings.get(number);
          if (known !== undefined) known.unknown = true;
          else this.sendings.set(number, { ...sent(number), receipts: [], unknown: true });
        }
        return;
      case 'answered':
        for (const { event, id, status, receivedAt } of note.events) {
          const sending = this.sendings.get(event);
          if (sending === undefined) throw new Error(`event ${event} was answered and never sent`);
          if (id === null) sending.unknown = false;
          else sending.receipts.push({ status, id, receivedAt });
        }
        return;
      case 'consumed': {
        const known = this.consumed.get(note.org) ?? new Set();
        for (const position of note.positions) known.add(position);
        this.consumed.set(note.org, known);
        return;
      }
      case 'step':
    }
  }

  copy(): Ledger {
    const copy = new Ledger();
    for (const [number, sending] of this.sendings) {
      copy.sendings.set(number, { ...sending, receipts: [...sending.receipts] });
    }
    for (const [org, positions] of this.consumed) copy.consumed.set(org, new Set(positions));
    return copy;
  }

  get acknowledged(): number {
    return [...this.sendings.values()].filter(({ receipts }) => receipts.length > 0).length;
  }
}

function sent(number: number): Pick<Sending, 'token' | 'payload' | 'dedupId'> {
  const { token, payload, dedupId } = tracedEvent(number);
  return { token, payload, dedupId };
}
