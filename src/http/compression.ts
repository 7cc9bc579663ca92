import type { EventLoopUtilization } from 'node:perf_hooks';
import { performance } from 'node:perf_hooks';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import type { Clock } from '../clock.js';
import type { Telemetry } from '../telemetry.js';
import type { ContentCoding } from './accept-encoding.js';
import { preferredCoding } from './accept-encoding.js';
import { encodedTag } from './entity-tag.js';
import type { Reply, Route } from './route.js';

/** Below this a reply fits a packet or two, and compressing it costs more than it saves. */
export const compressedBytesMin = 1_024;
/** Of UTF-8 for a unit of a string. */
const bytesPerUnitMax = 3;
/** Replies that are compressed at once: half of the threads that do it, so that bodies of requests can be decompressed beside them. */
export const compressingMax = 2;
/** The share of the last second in which the event loop was at work, from which on replies go out as they are. */
export const busyLoadMin = 0.8;

/**
 * Measured, 1,000 events of together 263 kB: gzip 38 kB in 1.7 ms at level 1, 36 kB in 9.0 ms at level 4; brotli 32 kB in 3.4 ms at quality 4, 28 kB
 * in 21 ms at 5 (and 17.8 ms for 11 kB at 11).
 */
const compressors: Readonly<Record<ContentCoding, (body: Buffer) => Promise<Buffer>>> = {
  br: (body) => brotli(body, { params: { ...brotliQuality, [constants.BROTLI_PARAM_SIZE_HINT]: body.length } }),
  gzip: (body) => gzipped(body, { level: 1 }),
};
const brotli = promisify(brotliCompress);
const gzipped = promisify(gzip);
const brotliQuality = {
  [constants.BROTLI_PARAM_QUALITY]: 4,
  [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
};

export interface CompressionOptions {
  readonly telemetry: Pick<Telemetry, 'compressedReplies' | 'plainReplies' | 'compressionSavedBytes'>;
  /** The share of the time in which the event loop was at work of late, 0 to 1. */
  readonly load: () => number;
}

/**
 * Compresses replies while there is time for it, in zlib's threads. A client can tell from nothing but the headers whether it was done, so there is
 * no error: whatever stands against it, the reply goes out as it is.
 */
export class Compression {
  readonly #options: CompressionOptions;
  #compressing = 0;
  /** Bodies as bytes are those that are kept, so what they become is kept with them. */
  readonly #kept = new WeakMap<Buffer, Map<ContentCoding, Buffer>>();

  constructor(options: CompressionOptions) {
    this.#options = options;
  }

  /** Whether `apply` has anything to do: every request asks. */
  static concerns({ body, mediaType }: Reply): boolean {
    if (body === null || body.length * bytesPerUnitMax < compressedBytesMin) return false;
    return Buffer.byteLength(body) >= compressedBytesMin && (mediaType === undefined || /json|html/.test(mediaType));
  }

  /** The reply as it goes out; also where it is plain it says what it depends on. */
  async apply(
    reply: Reply,
    { showsSecret = false }: Pick<Route, 'showsSecret'>,
    acceptEncoding: string | undefined,
  ): Promise<Reply> {
    const { plainReplies, compressedReplies, compressionSavedBytes } = this.#options.telemetry;
    const plain = { ...reply, headers: { ...reply.headers, Vary: withEncoding(reply.headers?.['Vary']) } };
    const coding = preferredCoding(acceptEncoding);
    if (reply.body === null || coding === null) {
      plainReplies.inc({ reason: 'not_accepted' });
      return plain;
    }
    const body = Buffer.isBuffer(reply.body) ? reply.body : Buffer.from(reply.body);
    const result = showsSecret ? 'secret' : await this.#compressed(body, coding, body === reply.body);
    if (typeof result === 'string') {
      plainReplies.inc({ reason: result });
      return plain;
    }
    compressedReplies.inc({ encoding: coding });
    compressionSavedBytes.inc(body.length - result.length);
    const tag = reply.headers?.['ETag'];
    const headers = {
      ...plain.headers,
      'Content-Encoding': coding,
      ...(tag !== undefined && { ETag: encodedTag(tag, coding) }),
    };
    return { ...plain, headers, body: result };
  }

  /** The compressed body, or why there is none. */
  async #compressed(body: Buffer, coding: ContentCoding, isKept: boolean): Promise<Buffer | PlainReason> {
    const kept = this.#kept.get(body)?.get(coding);
    if (kept !== undefined) return kept;
    if (this.#options.load() >= busyLoadMin) return 'busy';
    if (this.#compressing >= compressingMax) return 'full';
    this.#compressing++;
    try {
      const result = await compressors[coding](body);
      if (result.length >= body.length) return 'not_smaller';
      if (isKept) this.#kept.set(body, new Map(this.#kept.get(body)).set(coding, result));
      return result;
    } catch {
      // Such as no memory for it.
      return 'failed';
    } finally {
      this.#compressing--;
    }
  }
}

type PlainReason = 'busy' | 'failed' | 'full' | 'not_smaller';

function withEncoding(vary: string | undefined): string {
  if (vary === undefined) return 'Accept-Encoding';
  return /accept-encoding/i.test(vary) ? vary : `${vary}, Accept-Encoding`;
}

const sampleMs = 1_000;

/**
 * The load of this thread's event loop since the sample before, which is taken when somebody asks, a second after the last one at the earliest. So
 * after a quiet time a sudden load is seen within a second.
 */
export function eventLoopLoad(clock: Clock): () => number {
  let sampledAtMs = clock.monotonic();
  let last: EventLoopUtilization = performance.eventLoopUtilization();
  let load = 0;
  return () => {
    const nowMs = clock.monotonic();
    if (nowMs - sampledAtMs < sampleMs) return load;
    const current = performance.eventLoopUtilization();
    load = performance.eventLoopUtilization(current, last).utilization;
    [sampledAtMs, last] = [nowMs, current];
    return load;
  };
}
