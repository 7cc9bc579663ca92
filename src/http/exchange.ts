/** The way of one request through a route: admission, then its body, then the handler, then one reply or one refusal. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Type } from '@sinclair/typebox';
import type { Caller, Identity } from '../admission/authenticate.js';
import type { Clock } from '../clock.js';
import { Problem } from '../errors.js';
import { parseJsonBody } from '../ingest/json-body.js';
import type { Logger } from '../log.js';
import type { Telemetry } from '../telemetry.js';
import type { Admission } from './admit.js';
import { admitAccess, admitBody, admitCaller, admitRate, jsonOnly, preferredType } from './admit.js';
import type { BodyBudget, BodyRoom } from './body-budget.js';
import { decompress, isCompressed, receiveBody } from './body.js';
import { clientGone } from './client-gone.js';
import { Compression } from './compression.js';
import { renderProblem, toProblem } from './problem.js';
import { leftInTheBody } from './refusals.js';
import type { RefusalPace } from './refusal-pace.js';
import type { ReplyBudget } from './reply-budget.js';
import { requestIdOf } from './request-id.js';
import type { BodyLimit, Context, Reply, Route } from './route.js';
import { sendReply } from './send-reply.js';
import { bodyValidator, queryReader } from './validate.js';

/** What all requests share. */
export interface Door {
  readonly admission: Admission;
  readonly telemetry: Telemetry;
  readonly log: Logger;
  readonly clock: Clock;
  readonly replies: ReplyBudget;
  readonly bodies: BodyBudget;
  readonly compression: Compression;
  readonly refusals: RefusalPace;
  /** No further request is wanted on any connection. */
  readonly isClosing: () => boolean;
}

/** A route with what is prepared of it once. */
export class Endpoint {
  readonly route: Route;
  readonly door: Door;
  readonly bodyLimit: BodyLimit;
  readonly readQuery: (url: string) => Record<string, unknown>;
  readonly readBody: (raw: Buffer) => Readonly<Record<string, unknown>>;
  readonly replyTypes: readonly string[];
  /** What operators read has one form each, whatever is asked for: a collector of metrics asks for text. */
  readonly isNegotiated: boolean;
  /** Room for what its handlers read is made before they run. */
  readonly reservesReply: boolean;
  readonly #observers = new Map<number, (seconds: number) => void>();

  constructor(route: Route, door: Door) {
    this.route = route;
    this.door = door;
    this.bodyLimit = route.bodyLimit ?? door.admission.bodyLimit;
    this.readQuery = queryReaderOf(route);
    this.readBody = bodyReaderOf(route);
    this.replyTypes = route.replyTypes ?? jsonOnly;
    this.isNegotiated = route.path.startsWith('/v1/');
    this.reservesReply = route.bucket === 'read' || route.bucket === 'consume';
  }

  observe(status: number, seconds: number): void {
    let observer = this.#observers.get(status);
    if (observer === undefined) {
      const { method, path } = this.route;
      observer = this.door.telemetry.requestSeconds.of({ method, route: path, status: String(status) });
      this.#observers.set(status, observer);
    }
    observer(seconds);
  }
}

export class Exchange {
  readonly #endpoint: Endpoint;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #params: Readonly<Record<string, string>>;
  readonly #id: string;
  readonly #startedAtMs: number;
  #identity: Identity | null = null;
  #rateHeaders: Readonly<Record<string, string>> | null = null;
  /** Its cost is known only after its body is read, and not paid. */
  #owes = false;
  /** What its body takes, where that is counted. */
  #room: BodyRoom | null = null;
  #isReadingBody = false;

  constructor(
    endpoint: Endpoint,
    request: IncomingMessage,
    response: ServerResponse,
    params: Readonly<Record<string, string>>,
  ) {
    this.#endpoint = endpoint;
    this.#request = request;
    this.#response = response;
    this.#params = params;
    this.#id = requestIdOf(request);
    this.#startedAtMs = endpoint.door.clock.monotonic();
    response.on('close', () => this.#closed());
  }

  /** Answers the request, sooner or later. Never throws. */
  begin(): void {
    const { route, door } = this.#endpoint;
    try {
      const caller = admitCaller(door.admission, route, this.#request);
      if (caller instanceof Promise) {
        caller.then((known) => this.#admit(known)).catch((error: unknown) => this.#refuse(error));
      } else {
        this.#admit(caller);
      }
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** Before a byte of the body is read. */
  #admit(caller: Caller | null): void {
    const { route, door, bodyLimit } = this.#endpoint;
    const { headers } = this.#request;
    this.#identity = admitAccess(route, caller);
    admitBody(bodyLimit, route, headers);
    if (route.cost === 'counted') this.#owes = true;
    else this.#pay(1);
    this.#room = door.bodies.reserve(this.#response, this.#identity, headers, bodyLimit);
    void this.#work();
  }

  async #work(): Promise<void> {
    try {
      const { route, door, bodyLimit, readQuery, readBody } = this.#endpoint;
      const request = this.#request;
      this.#isReadingBody = true;
      let raw = await receiveBody(request, bodyLimit);
      this.#isReadingBody = false;
      this.#requireReplyType();
      // Also where the size is not known before: what is held already may be too much.
      if (this.#endpoint.reservesReply) door.replies.reserve(this.#response, route.replyBytesMax ?? 0);
      if (isCompressed(request) && raw.length > 0) raw = await decompress(raw, bodyLimit);
      this.#room?.arrived(raw.length);
      let query: Record<string, unknown>;
      try {
        query = readQuery(request.url ?? '');
      } catch (error) {
        // A body that is no JSON (400) is refused before a query that is not valid (422).
        await checkBody(route, raw, request);
        throw error;
      }
      const context: Context & { readonly identity: Identity | null } = {
        request,
        params: this.#params,
        query,
        body: readBody(raw),
        raw,
        clientGone: () => clientGone(this.#response),
        spend: (tokens) => {
          if (this.#owes) this.#pay(tokens);
        },
        identity: this.#identity,
      };
      const answer = await route.handler(context);
      if (route.replyBytesMax === undefined && answer.body !== null)
        door.replies.count(this.#response, answer.body.length);
      const isCompressible = Compression.concerns(answer) && request.method !== 'HEAD';
      const accepted = request.headers['accept-encoding'];
      this.#send(isCompressible ? await door.compression.apply(answer, route, accepted) : answer, this.#rateHeaders);
    } catch (error) {
      this.#refuse(error);
    }
  }

  #requireReplyType(): void {
    const { isNegotiated, replyTypes } = this.#endpoint;
    if (!isNegotiated || preferredType(this.#request.headers.accept, replyTypes) !== null) return;
    throw new Problem('not_acceptable', `The answer is ${replyTypes.join(' or ')}. Accept it.`);
  }

  #pay(tokens: number): void {
    const { route, door } = this.#endpoint;
    this.#owes = false;
    const admitted = admitRate(door.admission, route, this.#identity, tokens);
    this.#rateHeaders = admitted?.headers ?? null;
    if (admitted?.shadowRefused === true) {
      door.telemetry.rateLimited.inc({ bucket: route.bucket ?? 'none', mode: 'shadow' });
    }
  }

  /**
   * What is refused before its cost is known costs one token, so that bad requests are not free. Whoever has none is told of the fault all the same: false.
   */
  #payForRefusal(): boolean {
    if (!this.#owes) return true;
    try {
      this.#pay(1);
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return false;
    }
  }

  #refuse(error: unknown): void {
    const { route, door } = this.#endpoint;
    const isPaid = this.#payForRefusal();
    if (leftInTheBody(error, this.#request)) {
      door.telemetry.requestsAborted.inc();
      // There is nobody to answer.
      this.#response.destroy();
      return;
    }
    const problem = toProblem(error);
    const isOverLimit = problem.code === 'rate_limited' || problem.code === 'rate_exceeds_burst';
    if (isOverLimit) door.telemetry.rateLimited.inc({ bucket: route.bucket ?? 'none', mode: 'enforce' });
    if (this.#identity === null || (isPaid && !isOverLimit)) return this.#answerRefusal(problem, false);
    // While it waits, its body is thrown away: else each would be held in memory, and nobody has counted it.
    if (!this.#isReadingBody) this.#request.resume();
    door.refusals.inTurn(this.#identity.org, (isLast) => this.#answerRefusal(problem, isLast));
  }

  #answerRefusal(problem: Problem, isLast: boolean): void {
    const { route, door } = this.#endpoint;
    const reply = refusal(door, problem, this.#request, this.#id, route.path);
    // Where the reply itself could not be written, neither can this one.
    if (this.#response.headersSent) this.#response.destroy();
    else this.#send(reply, null, isLast);
  }

  /** The rest of a body that is not wanted any more is not waited for. */
  #send(reply: Reply, more: Reply['headers'] | null, isLastWanted = false): void {
    const isCutOff = this.#isReadingBody && !this.#request.complete;
    const isLast = isLastWanted || isCutOff || this.#endpoint.door.isClosing();
    sendReply(this.#request, this.#response, this.#id, reply, more, isLast);
  }

  #closed(): void {
    const response = this.#response;
    if (!response.writableFinished) return;
    const { route, door } = this.#endpoint;
    const ms = door.clock.monotonic() - this.#startedAtMs;
    this.#endpoint.observe(response.statusCode, ms / 1000);
    if (!door.log.isLevelEnabled('debug')) return;
    const { method, path } = route;
    door.log.debug({ request_id: this.#id, method, route: path, status: response.statusCode, ms }, 'request');
  }
}

/** The reply to a request that no route takes. */
export function refuseUnrouted(door: Door, problem: Problem, request: IncomingMessage, response: ServerResponse): void {
  const id = requestIdOf(request);
  sendReply(request, response, id, refusal(door, problem, request, id), null, door.isClosing());
}

function refusal(
  { telemetry, log }: Door,
  problem: Problem,
  request: IncomingMessage,
  requestId: string,
  route?: string,
): Reply {
  telemetry.problems.inc({ code: problem.code });
  const line = { request_id: requestId, method: request.method, route, code: problem.code };
  // A line for each refusal of a flood would be a flood of lines; the metrics count them.
  if (problem.status >= 500 && problem.code !== 'overloaded')
    log.warn({ ...line, err: problem.cause }, 'request failed');
  else log.debug(line, 'request refused');
  return renderProblem(problem, requestId);
}

async function checkBody(route: Route, raw: Buffer, request: IncomingMessage): Promise<void> {
  if (route.checkBody !== undefined) await route.checkBody(raw, request);
  else if (route.body !== undefined && raw.length > 0) parseJsonBody(raw);
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

const noFields = Type.Object({}, { additionalProperties: false });
