import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { Service } from '../lifecycle.js';
import { Problem } from '../errors.js';
import { renderProblem, toProblem } from './problem.js';
import { requestIdOf } from './request-id.js';
import { metricsReply } from './routes/operations.js';

/** Collectors are few. */
const connectionsMax = 100;

/** Serves `/metrics` alone, without a token, on a port of its own for whoever collects metrics inside the network. */
export class MetricsServer implements Service {
  readonly name = 'metrics';
  readonly #server: Server;

  constructor(
    private readonly host: string,
    private readonly port: number,
    scrape: () => Promise<string>,
  ) {
    this.#server = createServer((request, response) => {
      const requestId = requestIdOf(request);
      const isMetrics = request.url === '/metrics' && request.method === 'GET';
      const reply = isMetrics ? metricsReply(scrape) : Promise.reject(nothingElse());
      void reply
        .catch((error: unknown) => renderProblem(toProblem(error), requestId))
        .then(({ status, headers, mediaType, body }) =>
          response.writeHead(status, { ...headers, 'Content-Type': mediaType, 'X-Request-Id': requestId }).end(body),
        );
    });
    this.#server.maxConnections = connectionsMax;
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

function nothingElse(): Problem {
  return new Problem('not_found', 'This port serves GET /metrics alone.');
}
