import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import type { FastifyRequest } from 'fastify';
import { Problem } from '../errors.js';
import { hasBody, tooLarge } from './admit.js';
import type { BodyLimit } from './route.js';

const unzip = promisify(gunzip);
const noBytes = Buffer.alloc(0);

/** The body of a request, without its `Content-Encoding: gzip`; empty where there is none. */
export async function readRaw(request: FastifyRequest, limit: BodyLimit): Promise<Buffer> {
  const { body } = request;
  const { headers } = request.raw;
  if (!hasBody(headers) || !Buffer.isBuffer(body)) return noBytes;
  return headers['content-encoding']?.trim().toLowerCase() === 'gzip' ? decompress(body, limit) : body;
}

/**
 * Bodies that are decompressed at once, as many as the threads that do it. What is half decompressed is in memory and in no account yet, and more
 * at once would not be faster.
 */
const decompressingMax = 4;
let decompressing = 0;
const waiting: (() => void)[] = [];

/** The body without its `Content-Encoding: gzip`. A bomb is refused as soon as it has grown past the limit. */
async function decompress(body: Buffer, limit: BodyLimit): Promise<Buffer> {
  // The requests that wait are bounded by their connections.
  if (decompressing === decompressingMax) await new Promise<void>((resume) => waiting.push(resume));
  else decompressing++;
  try {
    return await unzip(body, { maxOutputLength: limit.bytesMax });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(limit);
    throw new Problem('bad_request', 'The body is not valid gzip, though Content-Encoding says so.', { cause: error });
  } finally {
    // Whoever waits takes over the place.
    const next = waiting.shift();
    if (next === undefined) decompressing--;
    else next();
  }
}
