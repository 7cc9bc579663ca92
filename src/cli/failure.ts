/** Why the server did not start, as one sentence for the person who started it, which says what to do next. */
import { isIP } from 'node:net';
import type { Config } from '../config.js';

export function failureSentence(error: unknown, config: Config): string {
  for (const cause of causes(error)) {
    const sentence = sentenceOf(cause, config);
    if (sentence !== undefined) return withoutSecrets(sentence, config);
  }
  const message = error instanceof Error ? error.message : String(error);
  return withoutSecrets(message.split('\n', 1)[0] ?? '', config);
}

/** `text` without the admin token and the database's passwords, which a driver's message may quote. */
export function withoutSecrets(text: string, config: Config): string {
  const urls = [config.databaseUrl, config.listenUrl];
  const passwords = urls.map((url) => /^\w+:\/\/[^:/@]*:(.*)@/.exec(url ?? '')?.[1]);
  const secrets = [
    ...urls,
    config.adminToken,
    ...passwords,
    ...passwords.map((password) => password && decoded(password)),
  ];
  return secrets.reduce<string>((safe, secret) => (secret ? safe.replaceAll(secret, '[redacted]') : safe), text);
}

const causesMax = 8;

/** The error and what it wraps, outermost first, since the outer ones know more of what was being done. */
function causes(error: unknown): Error[] {
  const found: Error[] = [];
  const open: unknown[] = [error];
  while (open.length > 0 && found.length < causesMax) {
    const next = open.shift();
    if (!(next instanceof Error)) continue;
    found.push(next);
    open.push(next.cause, ...(next instanceof AggregateError ? next.errors : []));
  }
  return found;
}

function sentenceOf(error: Error, config: Config): string | undefined {
  const field = (name: string): unknown => Reflect.get(error, name);
  const code = String(field('sqlstate') ?? field('code'));
  // A listener on a local socket, such as a folder's lock, has a path for its address and is not meant here.
  // 'bind', where another process listens for this one.
  if (['listen', 'bind'].includes(String(field('syscall'))) && isIP(String(field('address'))) !== 0) {
    return listenSentence(code, Number(field('port') ?? config.port), config);
  }
  if (field('syscall') === 'getaddrinfo' && field('hostname') === config.host) return hostSentence(code, config);
  return config.databaseUrl === null ? undefined : databaseSentence(code, config.databaseUrl);
}

function listenSentence(code: string, port: number, config: Config): string {
  const flag = port === config.metricsPort ? '--metrics-port' : '--port';
  switch (code) {
    case 'EADDRINUSE':
      return `Port ${port} of ${config.host} is in use; stop the program that has it, or choose another port with ${flag}.`;
    case 'EACCES':
      return `This user may not listen on port ${port}; choose a port above 1023 with ${flag}.`;
    default:
      return hostSentence(code, config);
  }
}

function hostSentence(code: string, config: Config): string {
  return `Cannot listen on ${config.host} (${code}); choose an address of this machine with --host, such as 127.0.0.1.`;
}

function databaseSentence(code: string, databaseUrl: string): string | undefined {
  const at = databaseUrl.replace(/^\w+:\/\/(?:.*@)?/, '').replace(/[/?].*$/, '') || 'the local socket';
  switch (code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'ENOENT':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'ETIMEDOUT':
      return `No PostgreSQL answers at ${at} (${code}); start it, or correct DATABASE_URL.`;
    case '28000':
    case '28P01':
      return `PostgreSQL at ${at} refuses the user or password of DATABASE_URL; correct them.`;
    case '3D000':
      return `PostgreSQL at ${at} has no database of the name in DATABASE_URL; create it with createdb, or correct the name.`;
    case '42501':
      return `The user of DATABASE_URL may not set up PostgreSQL at ${at}; give it CREATEROLE and the right to create in the schema public, or run what \`sluice migrate --print-roles\` prints.`;
    case '53300':
      return `PostgreSQL at ${at} has no connection free; raise its max_connections, or lower --db-pool.`;
    default:
      return undefined;
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
