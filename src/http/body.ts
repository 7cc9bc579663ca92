import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { Problem } from '../errors.js';
import { tooLarge } from './admit.js';

const unzip = promisify(gunzip);

/** The body without its `Content-Encoding: gzip`. A bomb is refused as soon as it has grown past the limit. */
export async function decompress(body: Buffer, bytesMax: number): Promise<Buffer> {
  try {
    return await unzip(body, { maxOutputLength: bytesMax });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(bytesMax);
    throw new Problem('bad_request', 'The body is not valid gzip, though Content-Encoding says so.', { cause: error });
  }
}
