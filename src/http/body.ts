import type { IncomingMessage } from 'node:http';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { Problem } from '../errors.js';
import { hasBody, tooLarge } from './admit.js';
import type { BodyLimit } from './route.js';

const unzip = promisify(gunzip);
const noBytes = Buffer.alloc(0);

/**
 * The body of a request as it was sent; empty where there is none, or none is expected (GET). Rejects with the error that ended it, or with a refusal
 * as soon as it has grown past the limit, of which the rest is still to come.
 */
export function receiveBody(request: IncomingMessage, limit: BodyLimit): Buffer | Promise<Buffer> {
  if (!hasBody(request.headers) || request.method === 'GET' || request.method === 'HEAD') return noBytes;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= limit.bytesMax) {
        chunks.push(chunk);
      } else {
        chunks.length = 0;
        reject(tooLarge(limit));
      }
    });
    // Each chunk is a copy of its own, not a part of all that was read from the socket.
    request.on('end', () => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
    request.on('error', reject);
  });
}

export function isCompressed({ headers }: IncomingMessage): boolean {
  const coding = headers['content-encoding'];
  return coding !== undefined && coding.trim().toLowerCase() === 'gzip';
}

/**
 * Bodies that are decompressed at once, as many as the threads that do it. What is half decompressed is in memory and in no account yet, and more
 * at once would not be faster.
 */
const decompressingMax = 4;
let decompressing = 0;
const waiting: (() => void)[] = [];

/** The body without its `Content-Encoding: gzip`. A bomb is refused as soon as it has grown past the limit. */
export async function decompress(body: Buffer, limit: BodyLimit): Promise<Buffer> {
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
