import { connect } from 'node:net';

export interface RawReply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** What came after this reply on the same connection. */
  readonly rest: string;
}

const replyMsMax = 10_000;

/**
 * Writes bytes as they are, which no HTTP client would, and resolves with the first reply once the server has closed the connection (send
 * `Connection: close` where the request is a valid one). Rejects if it does not close it.
 */
export function exchange(address: string, request: string): Promise<RawReply> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(address);
    const socket = connect(Number(port), hostname);
    let reply = '';
    socket.setEncoding('utf8').setTimeout(replyMsMax, () => socket.destroy(new Error(`not closed after: ${reply}`)));
    socket.on('data', (text: string) => {
      reply += text;
    });
    socket.on('error', reject);
    socket.on('close', () => resolve(parseReply(reply)));
    socket.write(request);
  });
}

function parseReply(reply: string): RawReply {
  const headEnd = reply.indexOf('\r\n\r\n');
  const [statusLine = '', ...lines] = reply.slice(0, headEnd).split('\r\n');
  const headers = new Headers(
    lines.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    }),
  );
  const body = Buffer.from(reply.slice(headEnd + 4));
  const length = Number(headers.get('content-length') ?? body.length);
  return {
    status: Number(/^HTTP\/1\.1 (\d{3})/.exec(statusLine)?.[1]),
    headers,
    text: body.toString('utf8', 0, length),
    rest: body.toString('utf8', length),
  };
}
