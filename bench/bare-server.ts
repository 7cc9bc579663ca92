/** What the others are measured against: `node:http` that reads and parses the body, stores nothing, and answers as Sluice does. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { bareAnswer } from './bare-answer.js';

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const body = bareAnswer(request.headers['content-type'], Buffer.concat(chunks).toString());
    response
      .writeHead(201, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) })
      .end(body);
  });
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo;
  process.stdout.write(`ready at http://127.0.0.1:${port}\n`);
});
