import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { Problem } from '../errors.js';
import { renderProblem } from './problem.js';
import type { Reply } from './route.js';

/** Answers what is no HTTP request, or did not arrive in time, and closes the connection: there is no request object yet. */
export function answerClientError(error: ClientError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const requestId = randomUUID();
  socket.end(rawReply(renderProblem(problemOf(error), requestId), requestId));
}

/** A reply, and the last on its connection, as the bytes that go out. Of its further headers, Retry-After alone. */
export function rawReply(reply: Reply, requestId: string): string {
  const body = String(reply.body);
  const retryAfter = reply.headers?.['Retry-After'];
  const head = [
    `HTTP/1.1 ${reply.status} ${STATUS_CODES[reply.status] ?? ''}`,
    `Content-Type: ${reply.mediaType}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    ...(retryAfter === undefined ? [] : [`Retry-After: ${retryAfter}`]),
    'Connection: close',
  ];
  return `${head.join('\r\n')}\r\n\r\n${body}`;
}

/** `rawPacket` is what the parser was reading. */
interface ClientError extends NodeJS.ErrnoException {
  readonly rawPacket?: unknown;
}

function problemOf({ code, rawPacket }: ClientError): Problem {
  if (code === 'HPE_HEADER_OVERFLOW') {
    if (Buffer.isBuffer(rawPacket) && endlessRequestLine.test(rawPacket.toString('latin1'))) {
      return new Problem('uri_too_long', 'The address, with its query, must be shorter than 16 KiB.');
    }
    return new Problem('headers_too_large', 'The request line and headers may have 16 KiB together.');
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new Problem('request_timeout', 'The request did not arrive in time. Send it again on a new connection.');
  }
  return new Problem('bad_request', 'This is not a valid HTTP/1.1 request.');
}

/** A method and the begin of an address that ends nowhere within the limit. */
const endlessRequestLine = /^[A-Z]{1,20} \S{16000}/;
