/** What a client sent and was told, against what is stored: the whole of the promises "a 2xx is durable" and "nothing twice". */

export interface Receipt {
  readonly status: number;
  readonly id: string;
  readonly receivedAt: string;
  /** Where the client noted it. */
  readonly durability?: string;
}

/** One event as its client knows it. */
export interface Sending {
  /** Unique, and part of the payload. */
  readonly token: string;
  readonly payload: string;
  readonly dedupId: string | null;
  /** Every 2xx that it got. */
  readonly receipts: Receipt[];
  /** Whether some attempt ended without an answer, or with one that leaves it open: it may be stored or not. */
  unknown: boolean;
}

/** One event as it was read back. */
export interface Stored {
  readonly id: string;
  readonly token: string;
  readonly payload: string;
}

/** Everything in which the storage and the clients' knowledge disagree, a line each. */
export function violations(sendings: Iterable<Sending>, stored: readonly Stored[]): string[] {
  const found: string[] = [];
  const byToken = new Map<string, Stored[]>();
  const ids = new Set<string>();
  for (const event of stored) {
    if (ids.has(event.id)) found.push(`${event.id} is listed twice`);
    ids.add(event.id);
    byToken.set(event.token, [...(byToken.get(event.token) ?? []), event]);
  }
  for (const sending of sendings) {
    found.push(...violationsOf(sending, byToken.get(sending.token) ?? []));
    byToken.delete(sending.token);
  }
  for (const [token, [event]] of byToken) found.push(`${event?.id}: nobody sent ${token}`);
  return found;
}

function violationsOf({ token, payload, receipts, unknown }: Sending, copies: readonly Stored[]): string[] {
  const found: string[] = [];
  const [first] = receipts;
  if (first !== undefined && copies.length === 0) found.push(`${token} was acknowledged as ${first.id} and is missing`);
  if (copies.length > 1) found.push(`${token} is stored ${copies.length} times`);
  if (first === undefined && !unknown && copies.length > 0) found.push(`${token} was refused and is stored`);
  for (const copy of copies) {
    if (first !== undefined && copy.id !== first.id) found.push(`${token} was given ${first.id} and is ${copy.id}`);
    if (copy.payload !== payload) found.push(`${token} came back altered: ${copy.payload.slice(0, 200)}`);
  }
  for (const [i, { status, id, receivedAt }] of receipts.entries()) {
    if (id !== first?.id || receivedAt !== first.receivedAt) found.push(`${token} was given ${first?.id} and ${id}`);
    if (status === 201 && receipts.findIndex((receipt) => receipt.status === 201) !== i) {
      found.push(`${token} was answered 201 twice`);
    }
  }
  return found;
}
