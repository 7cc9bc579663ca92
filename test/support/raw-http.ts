import { connect } from 'node:net';

export interface RawReply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** As many bytes of body came as the head says. The answer to a HEAD has none. */
  readonly isWhole: boolean;
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
    socket.on('close', () => resolve(parseReply(Buffer.from(reply))));
    socket.write(request);
  });
}

/** All replies on a connection, in their order. */
export function parseReplies(bytes: Buffer): RawReply[] {
  const replies: RawReply[] = [];
  for (let rest = bytes; rest.length > 0;) {
    const reply = parseReply(rest);
    replies.push(reply);
    rest = Buffer.from(reply.rest);
  }
  return replies;
}

const startOfReply = 'HTTP/1.1 ';

function parseReply(reply: Buffer): RawReply {
  const headEnd = reply.indexOf('\r\n\r\n');
  const [statusLine = '', ...lines] = reply.toString('utf8', 0, headEnd).split('\r\n');
  const headers = new Headers(
    lines.map((line): [string, string] => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    }),
  );
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(statusLine)?.[1]);
  const body = reply.subarray(headEnd + 4);
  const isWithout = status < 200 || status === 204 || status === 304 || body.length === 0 || isNext(body);
  const length = isWithout ? 0 : Number(headers.get('content-length') ?? body.length);
  return {
    status,
    headers,
    text: body.toString('utf8', 0, length),
    isWhole: headEnd >= 0 && body.length >= length,
    rest: body.toString('utf8', length),
  };
}

/** No body begins like a reply. */
function isNext(body: Buffer): boolean {
  return body.toString('latin1', 0, startOfReply.length) === startOfReply;
}
