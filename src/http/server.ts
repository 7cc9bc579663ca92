import type { AddressInfo, Socket } from 'node:net';
import Fastify from 'fastify';
import { Type } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Identity } from '../admission/authenticate.js';
import type { Clock } from '../clock.js';
import { systemClock } from '../clock.js';
import { Problem } from '../errors.js';
import { parseJsonBody } from '../ingest/json-body.js';
import type { Service } from '../lifecycle.js';
import type { Logger } from '../log.js';
import type { Telemetry } from '../telemetry.js';
import type { Admission } from './admit.js';
import { admitAccess, admitBody, admitCaller, admitRate, jsonOnly, preferredType } from './admit.js';
import type { BodyRoom } from './body-budget.js';
import { BodyBudget } from './body-budget.js';
import { readRaw } from './body.js';
import { clientGone } from './client-gone.js';
import { answerClientError } from './client-error.js';
import { Compression, eventLoopLoad } from './compression.js';
import { Connections } from './connections.js';
import { fromFastify, leftInTheBody, namesOneHost, notFound } from './framework-refusals.js';
import { renderProblem, toProblem } from './problem.js';
import { ReplyBudget } from './reply-budget.js';
import { requestIdOf } from './request-id.js';
import { headerBytesMax, requestMsMax } from './request-limits.js';
import type { BodyLimit, Context, KeyContext, Reply, Route } from './route.js';
import { sendReply } from './send-reply.js';
import { bodyValidator, queryReader } from './validate.js';

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
const silenceMsMax = 45_000;
const listensMsMax = 1_000;
const idleMsMax = 250;
const quietCheckMs = 25;

/** What the hooks know of a request. */
interface RequestState {
  identity: Identity | null;
  rateHeaders: Readonly<Record<string, string>> | null;
  /** Set until a request whose cost is known only after its body is read has paid. */
  owed: ((tokens: number) => void) | null;
  /** What its body takes, where that is counted. */
  room: BodyRoom | null;
  readonly bucket: string;
  readonly bodyLimit: BodyLimit;
  readonly startedAtMs: number;
}

const states = new WeakMap<FastifyRequest, RequestState>();

/** The HTTP door: routes from the table, admission before the body, one way to render a refusal. */
export class HttpServer implements Service {
  readonly name = 'http';
  readonly #options: HttpServerOptions;
  readonly #fastify: FastifyInstance;
  readonly #connections: Connections;
  #stopping: Promise<void> | null = null;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    this.#fastify = createFastify(options);
    const { connectionsMax, telemetry } = options;
    const onPressure = (what: string): void => telemetry.connectionPressure.inc({ what });
    this.#connections = new Connections(this.#fastify.server, { clock: systemClock, connectionsMax, onPressure });
    // A connection that is kept alive after its last reply would hold up the stop until its end.
    this.#fastify.addHook('onSend', (_request, reply, _payload, done) => {
      if (this.#stopping !== null) reply.header('Connection', 'close');
      done();
    });
    const compression = new Compression({ telemetry, load: eventLoopLoad(systemClock) });
    const budgets = { replies: new ReplyBudget(), bodies: new BodyBudget(), compression };
    const send: Send = (request, reply, answer, more) => {
      sendReply(request, reply, answer, more, this.#stopping !== null);
    };
    for (const route of options.routes) addRoute(this.#fastify, route as Route, options, budgets, send);
  }

  async start(): Promise<void> {
    await this.#fastify.listen({ host: this.#options.host, port: this.#options.port });
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
    const { address, port, family } = this.#fastify.server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }

  async #stop(): Promise<void> {
    const { drainMsMax } = this.#options;
    // Sockets close in the system's time, whatever clock the product runs on.
    const cancelHardStop = systemClock.after(drainMsMax, () => this.#fastify.server.closeAllConnections());
    const endSweeps = this.#sweepIdle();
    try {
      await this.#untilQuiet();
      await this.#fastify.close();
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

/** Fastify loads half of itself when the first instance is made: 0.1 to 0.3 s of a start, better spent while the database opens. */
export function preloadHttp(): void {
  Fastify();
}

function createFastify(options: HttpServerOptions): FastifyInstance {
  const fastify = Fastify({
    bodyLimit: options.admission.bodyLimit.bytesMax,
    requestTimeout: requestMsMax,
    // Longer than a receiver waits, and the end of a client that does not read its reply.
    connectionTimeout: silenceMsMax,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    exposeHeadRoutes: true,
    // An id that is too long to be one is an id that does not exist.
    routerOptions: { maxParamLength: headerBytesMax },
    // Node would answer a request without Host by itself, with a bare 400; the hook below refuses it in our words.
    http: {
      maxHeaderSize: headerBytesMax,
      requireHostHeader: false,
      headersTimeout: headersMsMax,
      connectionsCheckingInterval: arrivalCheckMs,
    },
    genReqId: requestIdOf,
    clientErrorHandler: answerClientError,
    frameworkErrors: (error, request, reply) => {
      sendError(error, request, reply, options);
    },
  });
  // Every body is taken as bytes; the routes parse what they need.
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  fastify.setErrorHandler((error, request, reply) => {
    sendError(error, request, reply, options);
  });
  fastify.addHook('onRequest', (request, _reply, done) => {
    if (!namesOneHost(request.raw)) done(new Problem('bad_request', 'Send the Host header, once.'));
    // Here and not in a handler, which would come after the body is read.
    else if (request.is404) done(notFound(request, options.routes as readonly Route[]));
    else done();
  });
  // Node's own answers to these have neither a body nor a request id. An expectation that is not known may be ignored (RFC 9110, 10.1.1).
  fastify.server.on('checkExpectation', (request, response) => fastify.server.emit('request', request, response));
  fastify.server.on('connect', (_request, socket: Socket) => answerClientError(new Error('CONNECT'), socket));
  return fastify;
}

type Send = (request: FastifyRequest, reply: FastifyReply, answer: Reply, more: Reply['headers'] | null) => void;

function addRoute(
  fastify: FastifyInstance,
  route: Route,
  options: HttpServerOptions,
  budgets: { readonly replies: ReplyBudget; readonly bodies: BodyBudget; readonly compression: Compression },
  send: Send,
): void {
  const { admission, telemetry, clock, log } = options;
  const readQuery = queryReaderOf(route);
  const readBody = bodyReaderOf(route);
  const latency = new Map<number, { observe(seconds: number): void }>();
  const observerOf = (status: number): { observe(seconds: number): void } => {
    let observer = latency.get(status);
    if (observer === undefined) {
      observer = telemetry.requestSeconds.labels({ method: route.method, route: route.path, status: String(status) });
      latency.set(status, observer);
    }
    return observer;
  };
  const bucket = route.bucket ?? 'none';
  const bodyLimit = route.bodyLimit ?? admission.bodyLimit;
  const pay = (state: RequestState, tokens: number): void => {
    state.owed = null;
    const admitted = admitRate(admission, route, state.identity, tokens);
    state.rateHeaders = admitted?.headers ?? null;
    if (admitted?.shadowRefused === true) telemetry.rateLimited.inc({ bucket, mode: 'shadow' });
  };
  // What operators read has one form each, whatever is asked for: a collector of metrics asks for text.
  const isNegotiated = route.path.startsWith('/v1/');
  const replyTypes = route.replyTypes ?? jsonOnly;

  fastify.route({
    method: route.method,
    url: route.path,
    bodyLimit: bodyLimit.bytesMax,
    onRequest: (request, reply, done) => {
      const startedAtMs = clock.monotonic();
      const state: RequestState = {
        identity: null,
        rateHeaders: null,
        owed: null,
        room: null,
        bucket,
        bodyLimit,
        startedAtMs,
      };
      states.set(request, state);
      const { headers } = request.raw;
      const admit = (caller: Awaited<ReturnType<typeof admitCaller>>): void => {
        state.identity = admitAccess(route, caller);
        admitBody(bodyLimit, route, headers);
        if (route.cost === 'counted') state.owed = (tokens) => pay(state, tokens);
        else pay(state, 1);
        state.room = budgets.bodies.reserve(reply.raw, state.identity, headers, bodyLimit);
      };
      try {
        const caller = admitCaller(admission, route, request.raw);
        if (!(caller instanceof Promise)) {
          admit(caller);
          done();
          return;
        }
        // oxlint-disable-next-line promise/no-callback-in-promise -- Fastify's hooks without a promise cost the usual request less
        caller.then(admit).then(() => done(), done);
      } catch (error) {
        done(error as Error);
      }
    },
    handler: async (request, reply) => {
      const state = states.get(request);
      if (isNegotiated && preferredType(request.raw.headers.accept, replyTypes) === null) {
        throw new Problem('not_acceptable', `The answer is ${replyTypes.join(' or ')}. Accept it.`);
      }
      // Also where the size is not known before: what is held already may be too much.
      const { replies } = budgets;
      if (route.bucket === 'read' || route.bucket === 'consume') replies.reserve(reply.raw, route.replyBytesMax ?? 0);
      const raw = await readRaw(request, bodyLimit);
      state?.room?.arrived(raw.length);
      let query: Record<string, unknown>;
      try {
        query = readQuery(request.raw.url ?? '');
      } catch (error) {
        // A body that is no JSON (400) is refused before a query that is not valid (422).
        await checkBody(route, raw, request);
        throw error;
      }
      const context: Context & { identity: Identity | null } = {
        request,
        params: request.params as Record<string, string>,
        query,
        body: readBody(raw),
        raw,
        clientGone: () => clientGone(reply.raw),
        spend: (tokens) => state?.owed?.(tokens),
        identity: state?.identity ?? null,
      };
      const answer = await route.handler(context);
      if (route.replyBytesMax === undefined && answer.body !== null) replies.count(reply.raw, answer.body.length);
      const isCompressible = Compression.concerns(answer) && request.raw.method !== 'HEAD';
      const { compression } = budgets;
      const accepted = request.headers['accept-encoding'];
      const sent = isCompressible ? await compression.apply(answer, route, accepted) : answer;
      send(request, reply, sent, state?.rateHeaders ?? null);
    },
    onResponse: (request, reply, done) => {
      const startedAtMs = states.get(request)?.startedAtMs;
      if (startedAtMs !== undefined) {
        const ms = clock.monotonic() - startedAtMs;
        observerOf(reply.statusCode).observe(ms / 1000);
        if (log.isLevelEnabled('debug')) {
          const { method, path } = route;
          log.debug({ request_id: request.id, method, route: path, status: reply.statusCode, ms }, 'request');
        }
      }
      done();
    },
  });
}

function queryReaderOf(route: Route): (url: string) => Record<string, unknown> {
  const read = queryReader(route.query ?? noFields);
  return (url) => {
    const start = url.indexOf('?');
    return start < 0 && route.query === undefined ? {} : read(start < 0 ? '' : url.slice(start + 1));
  };
}

async function checkBody(route: Route, raw: Buffer, request: FastifyRequest): Promise<void> {
  if (route.checkBody !== undefined) await route.checkBody(raw, request);
  else if (route.body !== undefined && raw.length > 0) parseJsonBody(raw);
}

function bodyReaderOf({ body }: Route): (raw: Buffer) => Readonly<Record<string, unknown>> {
  if (body === undefined || body === 'raw') return () => ({});
  const validate = bodyValidator(body);
  return (raw) => {
    // Where every field is optional, no body is the body without fields.
    const fields = raw.length === 0 ? {} : parseJsonBody(raw);
    validate(fields);
    return fields;
  };
}

/** What is refused before its cost is known costs one token, so that bad requests are not free; whoever has none is told of the fault all the same. */
function payForRefusal(request: FastifyRequest): void {
  try {
    states.get(request)?.owed?.(1);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
  }
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply, options: HttpServerOptions): void {
  if (leftInTheBody(error, request.raw)) {
    options.telemetry.requestsAborted.inc();
    payForRefusal(request);
    // There is nobody to answer.
    reply.hijack();
    reply.raw.destroy();
    return;
  }
  const problem = fromFastify(error, states.get(request)?.bodyLimit ?? options.admission.bodyLimit) ?? toProblem(error);
  payForRefusal(request);
  options.telemetry.problems.inc({ code: problem.code });
  if (problem.code === 'rate_limited' || problem.code === 'rate_exceeds_burst') {
    options.telemetry.rateLimited.inc({ bucket: states.get(request)?.bucket ?? 'none', mode: 'enforce' });
  }
  const line = { request_id: request.id, method: request.method, route: request.routeOptions.url, code: problem.code };
  // A line for each refusal of a flood would be a flood of lines; the metrics count them.
  if (problem.status >= 500 && problem.code !== 'overloaded')
    options.log.warn({ ...line, err: problem.cause }, 'request failed');
  else options.log.debug(line, 'request refused');
  reply.header('X-Request-Id', request.id);
  const { status, headers = {}, body, mediaType } = renderProblem(problem, request.id);
  void reply
    .code(status)
    .headers(headers)
    .serializer(asText)
    .header('Content-Type', mediaType ?? 'application/json')
    .send(body);
}

const noFields = Type.Object({}, { additionalProperties: false });
/** With a serializer of its own, a reply keeps its media type: fastify adds a charset otherwise, which JSON does not have. */
const asText = (text: unknown): string => text as string;
