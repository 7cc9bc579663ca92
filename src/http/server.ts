import { once } from 'node:events';
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';
import { Problem } from '../errors.js';
import type { Service } from '../lifecycle.js';
import type { Logger } from '../log.js';
import type { Telemetry } from '../telemetry.js';
import type { Admission } from './admit.js';
import { BodyBudget } from './body-budget.js';
import { answerClientError } from './client-error.js';
import { Compression, eventLoopLoad } from './compression.js';
import { Connections } from './connections.js';
import type { Door } from './exchange.js';
import { Endpoint, Exchange, refuseUnrouted } from './exchange.js';
import { namesOneHost, notFound } from './refusals.js';
import { RefusalPace } from './refusal-pace.js';
import { ReplyBudget } from './reply-budget.js';
import { headerBytesMax, requestMsMax } from './request-limits.js';
import type { KeyContext, Route } from './route.js';
import { createRouter } from './router.js';

export interface HttpServerOptions {
  readonly host: string;
  readonly port: number;
  readonly routes: readonly (Route | Route<KeyContext>)[];
  readonly admission: Admission;
  readonly telemetry: Telemetry;
  readonly log: Logger;
  readonly clock: Clock;
  /** How long requests under way may take after `stop`. */
  readonly drainMsMax: number;
  readonly connectionsMax: number;
}

/** How long the headers of a request may take to arrive. */
const headersMsMax = 10_000;
/** How often Node looks for requests past that. The oldest come first, so a look costs what it finds. */
const arrivalCheckMs = 1_000;
/**
 * Of a connection, whatever it is for: idle ones, receivers that wait, clients that do not read their reply. Longer than a receiver waits, and than proxies usually
 * keep idle connections, so that they, and not this side, close them.
 */
const silenceMsMax = 75_000;
const listensMsMax = 1_000;
const idleMsMax = 250;
const quietCheckMs = 25;

/** The HTTP door: routes from the table, admission before the body, one way to render a refusal. */
export class HttpServer implements Service {
  readonly name = 'http';
  readonly #options: HttpServerOptions;
  readonly #server: Server;
  readonly #connections: Connections;
  #stopping: Promise<void> | null = null;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    const { admission, telemetry, log, clock, connectionsMax } = options;
    this.#server = createHttpServer();
    const onPressure = (what: string): void => telemetry.connectionPressure.inc({ what });
    this.#connections = new Connections(this.#server, { clock: systemClock, connectionsMax, onPressure });
    const door: Door = {
      admission,
      telemetry,
      log,
      clock,
      replies: new ReplyBudget(),
      bodies: new BodyBudget(),
      compression: new Compression({ telemetry, load: eventLoopLoad(systemClock) }),
      // Connections live in the system's time, whatever clock the product runs on.
      refusals: new RefusalPace(systemClock),
      // A connection that is kept alive after its last reply would hold up the stop until its end.
      isClosing: () => this.#stopping !== null,
    };
    const routes = options.routes as readonly Route[];
    const dispatch = createRouter({
      routes,
      answerOf: (route) => {
        const endpoint = new Endpoint(route, door);
        return (request, response, params) => new Exchange(endpoint, request, response, params).begin();
      },
      onNotFound: (request, response) => refuseUnrouted(door, notFound(request, routes), request, response),
      onBadPath: (request, response) => refuseUnrouted(door, badPath(), request, response),
    });
    this.#server.on('request', (request, response) => {
      if (namesOneHost(request)) dispatch(request, response);
      else refuseUnrouted(door, new Problem('bad_request', 'Send the Host header, once.'), request, response);
    });
  }

  /** Rejects where the address cannot be listened on. */
  async start(): Promise<void> {
    // A failure before that rejects.
    const listening = once(this.#server, 'listening');
    this.#server.listen({ host: this.#options.host, port: this.#options.port });
    await listening;
  }

  /**
   * Requests under way finish, within their time. While there are any, but for `listensMsMax` at most, the door stays open, so that whoever asks
   * /readyz hears that this node is draining; then there are no new connections.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  get openConnections(): number {
    return this.#connections.open;
  }

  get idleConnections(): number {
    return this.#connections.idle;
  }

  /** `http://host:port`, after `start`. */
  get address(): string {
    const { address, port, family } = this.#server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }

  async #stop(): Promise<void> {
    const { drainMsMax } = this.#options;
    // Sockets close in the system's time, whatever clock the product runs on.
    const cancelHardStop = systemClock.after(drainMsMax, () => this.#server.closeAllConnections());
    const endSweeps = this.#sweepIdle();
    try {
      await this.#untilQuiet();
      const closed = new Promise<void>((resolve) => void this.#server.close(() => resolve()));
      this.#server.closeIdleConnections();
      await closed;
    } finally {
      cancelHardStop();
      endSweeps();
    }
  }

  /** Closes idle connections, also those that never sent a request. Not at once: a request may be on its way. */
  #sweepIdle(): () => void {
    const connections = this.#connections;
    let cancel = systemClock.after(idleMsMax, sweep);
    function sweep(): void {
      connections.closeIdle(idleMsMax);
      cancel = systemClock.after(quietCheckMs, sweep);
    }
    return () => cancel();
  }

  /** Every reply says `Connection: close` by now, so connections end as their requests do. */
  async #untilQuiet(): Promise<void> {
    const { drainMsMax } = this.#options;
    const endsAtMs = systemClock.monotonic() + Math.min(listensMsMax, drainMsMax);
    while (systemClock.monotonic() < endsAtMs && this.#connections.open > 0) {
      await new Promise<void>((resume) => {
        systemClock.after(quietCheckMs, resume);
      });
    }
  }
}

function createHttpServer(): Server {
  const server = createServer({
    maxHeaderSize: headerBytesMax,
    // Node would answer a request without Host by itself, with a bare 400; it is refused in our words.
    requireHostHeader: false,
    headersTimeout: headersMsMax,
    requestTimeout: requestMsMax,
    // Of two limits, Node would arm first the one and then the other for each request.
    keepAliveTimeout: 0,
    connectionsCheckingInterval: arrivalCheckMs,
  });
  server.timeout = silenceMsMax;
  server.on('clientError', answerClientError);
  // Node's own answers to these have neither a body nor a request id. An expectation that is not known may be ignored (RFC 9110, 10.1.1).
  server.on('checkExpectation', (request, response) => server.emit('request', request, response));
  server.on('connect', (_request, socket: Socket) => answerClientError(new Error('CONNECT'), socket));
  return server;
}

function badPath(): Problem {
  return new Problem('bad_request', 'The path is not valid percent-encoding.');
}
