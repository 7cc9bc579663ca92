import { randomUUID } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../clock.js';
import { Problem } from '../errors.js';
import { rawReply } from './client-error.js';
import { renderProblem } from './problem.js';

export interface ConnectionsOptions {
  readonly clock: Clock;
  readonly connectionsMax: number;
  /** A connection was closed for another's sake, or refused because none could be. */
  readonly onPressure: (what: 'closed_idle' | 'closed_stalled' | 'refused') => void;
}

interface Connection {
  readonly socket: Socket;
  /** Requests whose reply is not yet written: a client may send several at once. */
  underWay: number;
  /** The last of them. */
  request: IncomingMessage | null;
  /** When it last began to be idle, or to be busy. */
  sinceMs: number;
}

/** A younger connection is not closed for another's sake: its request is probably on its way. */
const idleMsMin = 250;
/** A request that has not arrived whole after this time gives way to others, when there is no room. */
const stalledMsMin = 5_000;
/** How many of the oldest requests one new connection looks through. */
const looksMax = 1_000;

/**
 * The connections of a server, at most `connectionsMax`. One more closes the one that has been idle longest (no request has arrived whole up to its
 * headers since its last reply), or else the oldest whose request is still arriving after 5 s; if every one is at work, the new one is refused. So
 * neither thousands of idle connections nor thousands of slow ones keep others out.
 */
export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #bySocket = new Map<Socket, Connection>();
  /** Both in the order of `sinceMs`. */
  readonly #idle = new Set<Connection>();
  readonly #busy = new Set<Connection>();

  constructor(server: Server, options: ConnectionsOptions) {
    this.#options = options;
    server.on('connection', (socket) => this.#opened(socket));
    // First, so that it has begun before it can be answered.
    server.prependListener('request', (request, response) => this.#began(request, response));
  }

  get open(): number {
    return this.#bySocket.size;
  }

  get idle(): number {
    return this.#idle.size;
  }

  /** Closes those that have had no request under way for so long. */
  closeIdle(idleMs: number): void {
    const before = this.#options.clock.monotonic() - idleMs;
    for (const connection of this.#idle) {
      if (connection.sinceMs > before) break;
      this.#close(connection);
    }
  }

  #opened(socket: Socket): void {
    if (this.open >= this.#options.connectionsMax && !this.#makeRoom()) {
      this.#options.onPressure('refused');
      refuse(socket);
      return;
    }
    const connection = { socket, underWay: 0, request: null, sinceMs: this.#options.clock.monotonic() };
    this.#bySocket.set(socket, connection);
    this.#idle.add(connection);
    socket.once('close', () => this.#forget(connection));
  }

  #began(request: IncomingMessage, response: ServerResponse): void {
    const connection = this.#bySocket.get(request.socket);
    if (connection === undefined) return;
    connection.request = request;
    if (connection.underWay++ === 0) this.#move(connection, this.#idle, this.#busy);
    response.on('close', () => {
      if (--connection.underWay > 0) return;
      connection.request = null;
      this.#move(connection, this.#busy, this.#idle);
    });
  }

  #move(connection: Connection, from: Set<Connection>, to: Set<Connection>): void {
    // Closed meanwhile: it is in neither.
    if (!from.delete(connection)) return;
    connection.sinceMs = this.#options.clock.monotonic();
    to.add(connection);
  }

  #makeRoom(): boolean {
    const now = this.#options.clock.monotonic();
    const [idle] = this.#idle;
    if (idle !== undefined && now - idle.sinceMs >= idleMsMin) {
      this.#options.onPressure('closed_idle');
      this.#close(idle);
      return true;
    }
    let looks = 0;
    for (const connection of this.#busy) {
      if (++looks > looksMax || now - connection.sinceMs < stalledMsMin) return false;
      if (connection.request?.complete !== false) continue;
      this.#options.onPressure('closed_stalled');
      this.#close(connection);
      return true;
    }
    return false;
  }

  #close(connection: Connection): void {
    this.#forget(connection);
    connection.socket.destroy();
  }

  #forget(connection: Connection): void {
    this.#bySocket.delete(connection.socket);
    this.#idle.delete(connection);
    this.#busy.delete(connection);
  }
}

/** Nothing of what it sends is read: a request that is carried out and cannot be answered would be worse than none. */
function refuse(socket: Socket): void {
  const detail = 'Too many connections are open here. Connect again after the time in Retry-After, and use fewer.';
  const requestId = randomUUID();
  socket.write(
    rawReply(renderProblem(new Problem('overloaded', detail, { retryAfterSeconds: 1 }), requestId), requestId),
  );
  socket.destroySoon();
}
