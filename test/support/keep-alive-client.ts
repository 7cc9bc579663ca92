import { Agent, request } from 'node:http';
import type { Answer } from './client.js';

/** A client for thousands of requests on few connections: a third of the work of `fetch`, and paths go out as they are. */
export class KeepAliveClient {
  readonly #agent: Agent;

  constructor(
    readonly address: string,
    connectionsMax: number,
    /** A request without an answer after this is given up: it rejects. */
    private readonly answerMsMax: number,
  ) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: connectionsMax });
  }

  call(method: string, path: string, body: Buffer | null, headers: Record<string, string>): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = new URL(this.address);
      const length = body === null ? {} : { 'Content-Length': String(body.length) };
      const options = { agent: this.#agent, hostname, port, method, path, headers: { ...headers, ...length } };
      const sent = request(options, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          const lists = Object.entries(response.headersDistinct);
          const received = new Headers(
            lists.map(([name, values]): [string, string] => [name, values?.join(', ') ?? '']),
          );
          const json =
            received.get('content-type')?.includes('json') === true && text !== '' ? JSON.parse(text) : undefined;
          resolve({ status: response.statusCode ?? 0, headers: received, text, json });
        });
      });
      sent.on('error', reject);
      sent.setTimeout(this.answerMsMax, () => sent.destroy(new Error(`no answer to ${method} ${path}`)));
      sent.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
