import { serialize } from 'pg-protocol';
import type pg from 'pg';

const copyDone = serialize.copyDone();

/**
 * `COPY … FROM STDIN` as a query that `pg` can submit: the statement, all data and the end of data leave in one write.
 *
 * `pg-copy-streams` is not used because it waits for the server's CopyInResponse and sends data and end on their own. A server that waits
 * for its client inside a COPY ignores every timeout, and the embedded engine has to be given the whole exchange in one call. Sending
 * ahead is safe: when a COPY fails, the server drops the CopyData and CopyDone that follow.
 */
export class CopyIn {
  readonly #text: string;
  readonly #data: Buffer;
  readonly #settle: (error: unknown, rows: number) => void;
  #rows = -1;

  /** `text` is the COPY statement, `data` everything it reads. `settle` is called once, with the error or the tag's count of rows. */
  constructor(text: string, data: Buffer, settle: (error: unknown, rows: number) => void) {
    this.#text = text;
    this.#data = data;
    this.#settle = settle;
  }

  submit(connection: pg.Connection): void {
    const header = Buffer.allocUnsafe(5);
    header.write('d');
    header.writeInt32BE(this.#data.length + 4, 1);
    const { stream } = connection;
    stream.cork();
    stream.write(serialize.query(this.#text));
    stream.write(header);
    stream.write(this.#data);
    stream.write(copyDone);
    stream.uncork();
  }

  handleCommandComplete(message: { text: string }): void {
    const count = /^COPY (\d+)$/.exec(message.text)?.[1];
    if (count !== undefined) this.#rows = Number(count);
  }

  handleReadyForQuery(): void {
    this.#settle(this.#rows < 0 ? new Error('the server ended COPY without a count') : undefined, this.#rows);
  }

  /** `pg` forgets a query that failed before it becomes ready again, so this is the end of it. */
  handleError(error: unknown): void {
    this.#settle(error, -1);
  }

  handleCopyInResponse(): void {}
}
