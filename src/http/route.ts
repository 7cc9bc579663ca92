import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { TObject } from '@sinclair/typebox';
import type { BucketClass } from '../admission/rate-limit.js';
import type { Identity } from '../admission/authenticate.js';
import type { KeyScope } from '../tenancy/scopes.js';
import type { RouteDocs } from './openapi/route-docs.js';

/** Who may call a route: anybody, the admin token, any key, or a key with a scope. */
export type Access = 'public' | 'admin' | 'any_key' | KeyScope;

/** The way of a body that is written in parts: a `ServerResponse`, of which no more is needed. */
export interface BodyStream {
  /** False: what was written waits for the client to read. Write on after `drain`, or the memory fills. */
  write(text: string): boolean;
  once(event: 'drain', listener: () => void): unknown;
}

/** A reply before it is written. `body` is JSON text or its bytes; null: no body. */
export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string | Buffer | null;
  /** Writes the body in place of `body`, which is null, and resolves at its end. Must end when the client is gone. */
  readonly stream?: (body: BodyStream) => Promise<void>;
  /** Default `application/json`. */
  readonly mediaType?: string;
}

export interface Context {
  readonly request: IncomingMessage;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, unknown>>;
  /** The body's fields; empty where there is no body. */
  readonly body: Readonly<Record<string, unknown>>;
  /** The body as it was sent, decompressed. */
  readonly raw: Buffer;
  /** Aborted when the connection closes before the reply is written. */
  readonly clientGone: () => AbortSignal;
  /** Of a route whose cost is `counted`: takes the tokens, once, or throws `rate_limited` or `rate_exceeds_burst`. */
  readonly spend: (tokens: number) => void;
}

/** How large a body may be, also decompressed, and what one that is larger is refused as. */
export interface BodyLimit {
  readonly bytesMax: number;
  readonly code: 'payload_too_large' | 'batch_too_large';
}

/** One row of the route table. */
export interface Route<C extends Context = Context> {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  /** Its replies and what else the document of the API says of it. */
  readonly docs: RouteDocs;
  readonly access: Access;
  /** Which bucket a request costs a token of. */
  readonly bucket: BucketClass | null;
  /**
   * Absent: one token, taken before the body is read. `counted`: as many as the handler spends, once it knows; a request that is refused before
   * that costs one.
   */
  readonly cost?: 'counted';
  /** What it answers with, for a client that accepts only some types; the usual one first. Default `application/json`. */
  readonly replyTypes?: readonly string[];
  /** What a reply may take, where that is much: room for it is made before the handler runs. */
  readonly replyBytesMax?: number;
  /**
   * A secret is in its replies. They are never compressed: beside text that another may choose, their size would tell of it (BREACH,
   * https://www.breachattack.com).
   */
  readonly showsSecret?: boolean;
  /** Query parameters; none where absent. */
  readonly query?: TObject;
  /** `raw`: the handler reads the bytes. Absent: no body is expected. */
  readonly body?: TObject | 'raw';
  /** Of the body. Default `application/json`. */
  readonly mediaTypes?: readonly string[];
  /** Whether the body of a request with these headers may be of any media type. */
  readonly takesAny?: (headers: IncomingHttpHeaders) => boolean;
  /** Where more than usual is taken. */
  readonly bodyLimit?: BodyLimit;
  /** Throws what a body that cannot be read is refused with. Default: as one JSON object. */
  readonly checkBody?: (raw: Buffer, request: IncomingMessage) => unknown;
  readonly handler: (context: C) => Reply | Promise<Reply>;
}

/** Of a route that only keys may call. */
export interface KeyContext extends Context {
  readonly identity: Identity;
}

/** A route for keys: its handler is given who calls. */
export function forKeys(
  route: Omit<Route<KeyContext>, 'access'> & { readonly access: 'any_key' | KeyScope },
): Route<KeyContext> {
  return route;
}

export function json(status: number, value: unknown, headers?: Readonly<Record<string, string>>): Reply {
  const reply = { status, body: JSON.stringify(value) };
  return headers === undefined ? reply : { ...reply, headers };
}
