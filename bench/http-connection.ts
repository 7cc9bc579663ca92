import { connect } from 'node:net';
import type { Socket } from 'node:net';

export interface HttpConnectionOptions {
  readonly hostname: string;
  readonly port: number;
  /** Without an answer for so long the connection is given up. */
  readonly answerMsMax: number;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: Buffer;
}

interface Waiter {
  readonly resolve: (answer: HttpAnswer) => void;
  readonly reject: (error: Error) => void;
}

const headEnd = Buffer.from('\r\n\r\n');

/** One keep-alive connection that sends requests as they are given, one at a time: a small part of what `node:http` does for each. */
export class HttpConnection {
  readonly #options: HttpConnectionOptions;
  #socket: Socket | undefined;
  #waiter: Waiter | undefined;
  #received: Buffer = Buffer.alloc(0);
  /** Of the answer under way, once its head is there. */
  #status = 0;
  #bodyFrom = 0;
  #answerEnd = Infinity;

  constructor(options: HttpConnectionOptions) {
    this.#options = options;
  }

  /** Connects; closes what there was. Rejects where nobody listens. */
  open(): Promise<void> {
    this.close();
    const { hostname, port, answerMsMax } = this.#options;
    const socket = connect({ host: hostname, port, noDelay: true });
    this.#socket = socket;
    this.#received = Buffer.alloc(0);
    this.#answerEnd = Infinity;
    socket.setTimeout(answerMsMax, () => socket.destroy(new Error('no answer in time')));
    socket.on('data', (bytes) => this.#read(bytes));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the connection was closed')));
    return new Promise((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
  }

  /** Sends a whole request. One at a time. Rejects when the connection ends before the answer does. */
  ask(request: string): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#socket === undefined || this.#socket.destroyed) {
        reject(new Error('the connection is closed'));
        return;
      }
      this.#waiter = { resolve, reject };
      this.#socket.write(request, 'latin1');
    });
  }

  close(): void {
    this.#socket?.removeAllListeners('close');
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #read(bytes: Buffer): void {
    this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes]);
    if (this.#answerEnd === Infinity && !this.#readHead()) return;
    if (this.#received.length < this.#answerEnd) return;
    const body = this.#received.subarray(this.#bodyFrom, this.#answerEnd);
    this.#received = this.#received.subarray(this.#answerEnd);
    this.#answerEnd = Infinity;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolve({ status: this.#status, body });
  }

  /** False while the head is not there as a whole. */
  #readHead(): boolean {
    const end = this.#received.indexOf(headEnd);
    if (end === -1) return false;
    const head = this.#received.toString('latin1', 0, end + 2);
    const length = /\r\ncontent-length: *(\d+)\r\n/i.exec(head)?.[1];
    this.#status = Number(head.slice(9, 12));
    if (length === undefined && this.#status !== 204) {
      this.#socket?.destroy(new Error('an answer without a Content-Length'));
      return false;
    }
    this.#bodyFrom = end + headEnd.length;
    this.#answerEnd = this.#bodyFrom + Number(length ?? 0);
    return true;
  }

  #fail(error: Error): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.reject(error);
  }
}
