/** An event on its way into the log: validated, its payload still the bytes that were sent. */
export interface NewEvent {
  /** Decimal digits. */
  readonly org: string;
  readonly type: string;
  readonly subject: string | null;
  /** Milliseconds since the Unix epoch. */
  readonly occurredAtMs: number | null;
  readonly payload: Buffer;
  /** JSON text of an object: what a CloudEvent says besides. Absent: nothing. */
  readonly attributes?: string;
  /** Present where the event must not be stored twice; `bodyHash` tells a repeat from another event under the same id. */
  readonly dedup: { readonly id: string; readonly bodyHash: Buffer } | null;
}
