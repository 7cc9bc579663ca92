import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { Service } from '../lifecycle.js';
import type { Telemetry } from '../telemetry.js';
import { metricsReply } from './routes/operations.js';

/** Serves `/metrics` alone, without a token, on a port of its own for whoever collects metrics inside the network. */
export class MetricsServer implements Service {
  readonly name = 'metrics';
  readonly #server: Server;

  constructor(
    private readonly host: string,
    private readonly port: number,
    telemetry: Telemetry,
  ) {
    this.#server = createServer((request, response) => {
      if (request.url !== '/metrics' || request.method !== 'GET') {
        response.writeHead(404).end();
        return;
      }
      metricsReply(telemetry).then(
        (reply) => response.writeHead(200, { 'Content-Type': reply.mediaType }).end(reply.body),
        () => response.writeHead(500).end(),
      );
    });
  }

  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject).listen(this.port, this.host, resolve);
    });
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}
