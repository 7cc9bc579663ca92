/** What there is to say, at the start, of the PostgreSQL server that a node is given: pure functions from what it says of itself to sentences. */
import type { ServerFacts } from './sql/server.js';

const oldestVersion = 150_000;
/** Connections that are left to everybody else: people, backups, monitoring. */
const sparedConnections = 10;

/**
 * Why this server cannot be used by a node of `processes` processes that opens up to `sessions` connections, in a sentence that says what to do; or
 * null.
 */
export function serverRefusal(facts: ServerFacts, sessions: number, processes = 1): string | null {
  const { version, connectionsMax, connectionsReserved } = facts;
  if (version < oldestVersion) {
    const name = version >= 100_000 ? String(Math.floor(version / 10_000)) : 'a version older than 10';
    return `The server of DATABASE_URL is PostgreSQL ${name}; Sluice needs 15 or newer, so upgrade it.`;
  }
  const room = connectionsMax - connectionsReserved;
  if (sessions > room) {
    return (
      `${openers(processes)} would open up to ${sessions} connections, and PostgreSQL takes ${room} in all (max_connections ${connectionsMax}, of ` +
      `which ${connectionsReserved} are reserved); raise max_connections, or lower SLUICE_DB_POOL${orWorkers(processes)}.`
    );
  }
  return null;
}

/** What weakens the promise of a receipt more than an operator may think, in one sentence; null if nothing does. */
export function durabilityWarning(facts: ServerFacts): string | null {
  const faults: string[] = [];
  if (!facts.fsync) faults.push('fsync is off, so a power loss can destroy the whole database');
  if (!facts.fullPageWrites) faults.push('full_page_writes is off, so a power loss can leave torn pages');
  if (facts.synchronousCommit === 'off') {
    faults.push('synchronous_commit is off, so the last moments before a crash are lost');
  }
  if (faults.length > 0) {
    return `On this PostgreSQL server ${faults.join('; ')}: every receipt will say "memory", and an acknowledged event may be lost.`;
  }
  if (facts.synchronousStandbyNames === '') return null;
  const { synchronousCommit: level } = facts;
  if (facts.walSendersMax > 0 && (level === 'on' || level === 'remote_apply')) return null;
  const why =
    facts.walSendersMax === 0 ? 'max_wal_senders is 0' : `synchronous_commit is ${level}, not on or remote_apply`;
  return `PostgreSQL has synchronous standbys, but ${why}: receipts will say "fsync", not "replicated".`;
}

/**
 * Whether `sessions` connections fit beside those that are open, in a sentence if they do not. How many nodes there are nobody knows here, so
 * what counts is what is free at this moment.
 */
export function budgetWarning(facts: ServerFacts, sessions: number, processes = 1): string | null {
  const { connectionsMax, connectionsReserved, connectionsInUse } = facts;
  // The session that asks is one of its own process.
  const others = Math.max(0, connectionsInUse - 1);
  const free = connectionsMax - connectionsReserved - others - sparedConnections;
  if (sessions <= free) return null;
  return (
    `${openers(processes)} may open ${sessions} connections (${processes > 1 ? `${processes} × ` : ''}SLUICE_DB_POOL and one that listens), but of PostgreSQL's max_connections ` +
    `${connectionsMax}, ${connectionsReserved} are reserved, ${others} in use and ${sparedConnections} to be spared, which leaves ` +
    `${Math.max(0, free)}: some requests may get 503; raise max_connections, or lower SLUICE_DB_POOL${orWorkers(processes)} on every node.`
  );
}

function openers(processes: number): string {
  return processes === 1 ? 'This process' : `The ${processes} processes of this node`;
}

function orWorkers(processes: number): string {
  return processes === 1 ? '' : ' or SLUICE_WORKERS';
}

export const pooledWithoutListen =
  'DATABASE_URL leads to a pooler and SLUICE_LISTEN_URL is not set: what other nodes store is found by looking every 5 s; set it to the address ' +
  'of the PostgreSQL server itself to hear of it at once.';

export const listenThroughPooler =
  'SLUICE_LISTEN_URL leads to a pooler, which loses notifications; name the PostgreSQL server itself.';
