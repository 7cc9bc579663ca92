import { Query } from 'pg';
import type pg from 'pg';
import { serialize } from 'pg-protocol';

const copyDone = serialize.copyDone();

/**
 * `COPY target FROM STDIN (FORMAT binary)` as a query that `pg` can submit: the statement, all data and the end of data leave in one write.
 *
 * `pg-copy-streams` is not used because it waits for the server's CopyInResponse and sends data and end on their own. A server that waits
 * for its client inside a COPY ignores every timeout, and the embedded engine has to be given the whole exchange in one call. Sending
 * ahead is safe: when a COPY fails, the server drops the CopyData and CopyDone that follow. A subclass of `Query`, because in pipeline
 * mode `pg` refuses every other: it must rely on the answers to one query ending before those to the next begin, as they do here.
 */
export class CopyIn extends Query {
  readonly #text: string;
  readonly #data: Buffer;
  readonly #waits: boolean;

  /**
   * `waits`: data and end are sent only once the server asks for them. For poolers: PgBouncer (seen in 1.25) keeps a session of the server for a client
   * whose end of data came before that, for as long as the client is there.
   */
  constructor(target: string, data: Buffer, waits = false) {
    const text = `COPY ${target} FROM STDIN (FORMAT binary)`;
    super(text);
    this.#text = text;
    this.#data = data;
    this.#waits = waits;
  }

  override readonly submit = (connection: pg.Connection): void => {
    const { stream } = connection;
    stream.cork();
    stream.write(serialize.query(this.#text));
    if (!this.#waits) this.#sendData(connection);
    stream.uncork();
  };

  handleCopyInResponse(connection: pg.Connection): void {
    if (this.#waits) this.#sendData(connection);
  }

  #sendData({ stream }: pg.Connection): void {
    const header = Buffer.allocUnsafe(5);
    header.write('d');
    header.writeInt32BE(this.#data.length + 4, 1);
    stream.cork();
    stream.write(header);
    stream.write(this.#data);
    stream.write(copyDone);
    stream.uncork();
  }
}
