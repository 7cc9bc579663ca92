/** A bare Fastify server: the framework's own parsing, nothing stored. */
import Fastify from 'fastify';
import { bareAnswer, bareReply } from './bare-answer.js';

const bodyLimit = 16 * 1024 * 1024;

const server = Fastify({ logger: false, bodyLimit });
server.addContentTypeParser('application/x-ndjson', { parseAs: 'string' }, (_request, body, done) => {
  done(null, body);
});
server.post('/*', (request, reply) => {
  const { body } = request;
  const text =
    typeof body === 'string' ? bareAnswer('application/x-ndjson', body) : bareReply(body as { type: string });
  return reply.code(201).type('application/json').send(text);
});
process.stdout.write(`ready at ${await server.listen({ host: '127.0.0.1', port: 0 })}\n`);
