import type { AddressInfo } from 'node:net';
import Fastify from 'fastify';
import Type from 'typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Identity } from '../admission/authenticate.js';
import { Problem } from '../errors.js';
import { parseJsonBody } from '../ingest/json-body.js';
import type { Service } from '../lifecycle.js';
import type { Logger } from '../log.js';
import type { Telemetry } from '../telemetry.js';
import type { Admission } from './admit.js';
import { acceptsJson, admitAccess, admitBody, admitCaller, admitRate, hasBody, tooLarge } from './admit.js';
import { decompress } from './body.js';
import { clientGone } from './client-gone.js';
import { answerClientError } from './client-error.js';
import { renderProblem, toProblem } from './problem.js';
import { requestIdOf } from './request-id.js';
import type { Context, KeyContext, Reply, Route } from './route.js';
import { bodyValidator, queryReader } from './validate.js';

export interface HttpServerOptions {
  readonly host: string;
  readonly port: number;
  readonly routes: readonly (Route | Route<KeyContext>)[];
  readonly admission: Admission;
  readonly telemetry: Telemetry;
  readonly log: Logger;
  /** How long requests under way may take after `stop`. */
  readonly drainMsMax: number;
}

/** How long a request may take to arrive, its body included. */
const requestMsMax = 30_000;
const headerBytesMax = 16 * 1024;

/** What the hooks know of a request. */
interface RequestState {
  identity: Identity | null;
  rateHeaders: Readonly<Record<string, string>> | null;
  startedAtMs: number;
}

const states = new WeakMap<FastifyRequest, RequestState>();

/** The HTTP door: routes from the table, admission before the body, one way to render a refusal. */
export class HttpServer implements Service {
  readonly name = 'http';
  readonly #options: HttpServerOptions;
  readonly #fastify: FastifyInstance;
  #stopping: Promise<void> | null = null;

  constructor(options: HttpServerOptions) {
    this.#options = options;
    this.#fastify = createFastify(options);
    for (const route of options.routes) addRoute(this.#fastify, route as Route, options);
  }

  async start(): Promise<void> {
    await this.#fastify.listen({ host: this.#options.host, port: this.#options.port });
  }

  /** No new connections; requests under way finish, within their time. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** `http://host:port`, after `start`. */
  get address(): string {
    const { address, port, family } = this.#fastify.server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }

  async #stop(): Promise<void> {
    const hardStop = setTimeout(() => this.#fastify.server.closeAllConnections(), this.#options.drainMsMax);
    try {
      await this.#fastify.close();
    } finally {
      clearTimeout(hardStop);
    }
  }
}

function createFastify(options: HttpServerOptions): FastifyInstance {
  const fastify = Fastify({
    bodyLimit: options.admission.bodyBytesMax,
    requestTimeout: requestMsMax,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    exposeHeadRoutes: true,
    routerOptions: { maxParamLength: 512 },
    http: { maxHeaderSize: headerBytesMax },
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
  fastify.setNotFoundHandler((request, reply) => {
    sendError(notFound(request, options.routes as readonly Route[]), request, reply, options);
  });
  fastify.addHook('onRequest', (request, reply, done) => {
    reply.header('X-Request-Id', request.id);
    done();
  });
  return fastify;
}

function addRoute(fastify: FastifyInstance, route: Route, options: HttpServerOptions): void {
  const { admission, telemetry } = options;
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

  fastify.route({
    method: route.method,
    url: route.path,
    onRequest: (request, _reply, done) => {
      const state: RequestState = { identity: null, rateHeaders: null, startedAtMs: performance.now() };
      states.set(request, state);
      const { headers } = request.raw;
      const admit = (caller: Awaited<ReturnType<typeof admitCaller>>): void => {
        state.identity = admitAccess(route, caller);
        admitBody(admission, route, headers);
        const admitted = admitRate(admission, route, state.identity);
        state.rateHeaders = admitted?.headers ?? null;
        if (admitted?.shadowRefused === true) telemetry.rateLimited.inc({ bucket, mode: 'shadow' });
      };
      try {
        const caller = admitCaller(admission, route, headers);
        if (!(caller instanceof Promise)) {
          admit(caller);
          done();
          return;
        }
        caller.then(admit).then(() => done(), done);
      } catch (error) {
        done(error as Error);
      }
    },
    handler: async (request, reply) => {
      const state = states.get(request);
      if (!acceptsJson(request.raw.headers.accept)) {
        throw new Problem('not_acceptable', 'The answer is JSON. Accept application/json.');
      }
      const raw = await readRaw(request, admission.bodyBytesMax);
      const context: Context & { identity: Identity | null } = {
        request,
        params: request.params as Record<string, string>,
        query: readQuery(request.raw.url ?? ''),
        body: readBody(raw),
        raw,
        clientGone: () => clientGone(reply.raw),
        identity: state?.identity ?? null,
      };
      return send(reply, await route.handler(context), state?.rateHeaders ?? null);
    },
    onResponse: (request, reply, done) => {
      const startedAtMs = states.get(request)?.startedAtMs;
      if (startedAtMs !== undefined) observerOf(reply.statusCode).observe((performance.now() - startedAtMs) / 1000);
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

async function readRaw(request: FastifyRequest, bytesMax: number): Promise<Buffer> {
  const body = hasBody(request.raw.headers) && Buffer.isBuffer(request.body) ? request.body : noBytes;
  return request.raw.headers['content-encoding']?.trim().toLowerCase() === 'gzip' ? decompress(body, bytesMax) : body;
}

function send(reply: FastifyReply, { status, headers, body, mediaType }: Reply, more: Reply['headers'] | null) {
  reply.code(status);
  if (headers !== undefined) reply.headers(headers);
  if (more !== null && more !== undefined) reply.headers(more);
  if (body === null) return reply.send();
  return reply.header('Content-Type', mediaType ?? 'application/json').send(body);
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply, options: HttpServerOptions): void {
  const problem = fromFastify(error, options.admission.bodyBytesMax) ?? toProblem(error);
  options.telemetry.problems.inc({ code: problem.code });
  if (problem.code === 'rate_limited' || problem.code === 'rate_exceeds_burst') {
    const bucket = request.routeOptions.url === '/v1/events' ? 'write' : 'other';
    options.telemetry.rateLimited.inc({ bucket, mode: 'enforce' });
  }
  const line = { request_id: request.id, method: request.method, route: request.routeOptions.url, code: problem.code };
  if (problem.status >= 500) options.log.warn({ ...line, err: problem.cause }, 'request failed');
  else options.log.debug(line, 'request refused');
  reply.header('X-Request-Id', request.id);
  void send(reply, renderProblem(problem, request.id), null);
}

/** Fastify's own refusals, in our words. Null: not one of them. */
function fromFastify(error: unknown, bodyBytesMax: number): Problem | null {
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown };
  if (typeof code !== 'string' || !code.startsWith('FST_ERR_')) return null;
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return tooLarge(bodyBytesMax);
  if (code === 'FST_ERR_BAD_URL') return new Problem('bad_request', 'The path is not valid percent-encoding.');
  if (code === 'FST_ERR_MAX_PARAM_LENGTH' || statusCode === 414)
    return new Problem('uri_too_long', 'The path is too long.');
  if (statusCode === 404) return new Problem('not_found', 'There is nothing at this path.');
  if (statusCode === 415) return new Problem('unsupported_media_type', 'Send the body as JSON.');
  if (typeof statusCode === 'number' && statusCode < 500) {
    return new Problem('bad_request', 'The request does not keep to HTTP: its body is not as its headers say.', {
      cause: error,
    });
  }
  return null;
}

/** 404 where no route has this path, 405 where one has it with another method. */
function notFound(request: FastifyRequest, routes: readonly Route[]): Problem {
  const path = (request.raw.url ?? '').split('?', 1)[0] ?? '';
  const methods = routes.filter((route) => matches(route.path, path)).map((route) => route.method);
  if (methods.length === 0) return new Problem('not_found', `There is nothing at this path.`);
  const allow = [...new Set(methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])))].join(', ');
  return new Problem('method_not_allowed', `This path takes ${allow}.`, { headers: { Allow: allow } });
}

function matches(template: string, path: string): boolean {
  const [wanted, given] = [template.split('/'), path.split('/')];
  return (
    wanted.length === given.length &&
    wanted.every((part, i) => (part.startsWith(':') ? given[i] !== '' : part === given[i]))
  );
}

const noFields = Type.Object({}, { additionalProperties: false });
const noBytes = Buffer.alloc(0);
