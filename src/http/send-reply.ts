import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Reply } from './route.js';

/** Writes an answer to the socket: headers as a list in one call, which costs less than one by one. `isLast`: the connection is closed behind it. */
export function sendReply(
  request: IncomingMessage,
  response: ServerResponse,
  requestId: string,
  { status, headers, body, stream, mediaType }: Reply,
  more: Reply['headers'] | null,
  isLast: boolean,
): void {
  const list: string[] = ['X-Request-Id', requestId];
  let encoding: BufferEncoding = 'utf8';
  if (isLast) list.push('Connection', 'close');
  for (const some of [headers, more]) {
    for (const name in some) list.push(name, some[name] as string);
  }
  if (stream !== undefined) {
    list.push('Content-Type', mediaType ?? 'application/json');
  } else if (body === null) {
    if (status !== 204 && status !== 304) list.push('Content-Length', '0');
  } else {
    const bytes = Buffer.byteLength(body);
    // Where each character is a byte, all of it is ASCII, and goes out as it is.
    if (bytes === body.length) encoding = 'latin1';
    list.push('Content-Type', mediaType ?? 'application/json', 'Content-Length', String(bytes));
  }
  response.writeHead(status, list);
  if (stream === undefined || request.method === 'HEAD') {
    if (body === null) response.end();
    else response.end(body, encoding);
    return;
  }
  response.flushHeaders();
  const end = (): void => void response.end();
  // A body that breaks off must not look like one that is complete.
  stream(response).then(end, () => response.destroy());
}
