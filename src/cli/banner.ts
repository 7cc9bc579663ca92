/** What the server says on standard output once it can take events: where it is, and commands that work as pasted into a shell. */
import type { Writable } from 'node:stream';
import type { RunningServer } from '../app.js';

export interface BannerLine {
  readonly text: string;
  /** `command` lines are printed bare, whatever the terminal: they are there to be copied. */
  readonly kind: 'headline' | 'text' | 'command';
}

/** Where the banner goes; `isTTY` is absent or false on what is no terminal. */
export type Output = Writable & { readonly isTTY?: boolean; hasColors?(): boolean };

export type Announced = Pick<RunningServer, 'address' | 'engine' | 'role' | 'dataDir' | 'adminToken' | 'firstStart'>;

export function bannerLines(server: Announced): readonly BannerLine[] {
  const sections = [
    [{ text: `Sluice is ready at ${server.address}`, kind: 'headline' } as const],
    whatToDo(server),
    whereThingsAre(server),
  ];
  return sections.flatMap((section, index) => (index === 0 ? section : [text(''), ...section]));
}

/**
 * Resolves once the lines were handed to the system. Rejects when nobody can have read them (a closed pipe), so that what can be shown only
 * once is not taken for shown.
 */
export async function printBanner(lines: readonly BannerLine[], out: Output = process.stdout): Promise<void> {
  const colours = out.isTTY === true && out.hasColors?.() === true;
  const painted = lines.map(({ text: line, kind }) =>
    colours && kind === 'headline' ? `\u001b[1;32m${line}\u001b[0m` : line,
  );
  await new Promise<void>((resolve, reject) => {
    // Besides calling back, a failed write is an 'error' event, which without a listener would end the process.
    const failed = (error: Error): void => reject(error);
    out.once('error', failed);
    out.write(`${painted.join('\n')}\n`, (error) => {
      if (error) return reject(error);
      out.off('error', failed);
      resolve();
    });
  });
}

function whatToDo(server: Announced): BannerLine[] {
  if (server.role === 'worker') {
    return [text('It works in the background (SLUICE_ROLE) and serves only /healthz, /readyz and /metrics.')];
  }
  return server.firstStart === null ? moreKeys(server) : firstSteps(server.address, server.firstStart);
}

function firstSteps(address: string, firstStart: NonNullable<RunningServer['firstStart']>): BannerLine[] {
  const bearer = `-H ${shellQuote(`Authorization: Bearer ${firstStart.key}`)}`;
  const leased = `curl -sS ${shellQuote(`${address}/v1/inbox?status=leased&fields=id`)} ${bearer}`;
  return [
    text(`The key of the org "${firstStart.orgName}". Keep it: it is shown only now, and only its hash is stored.`),
    text(`  ${firstStart.key}`),
    text(''),
    text('Send an event:'),
    post(address, '/v1/events', bearer, shellQuote('{"type":"user.created","payload":{"user_id":"12345"}}')),
    text('Receive what is pending; it is leased to you for an hour:'),
    post(address, '/v1/inbox/receive', bearer, shellQuote('{"max":10,"lease_seconds":3600}')),
    text('Acknowledge what you received:'),
    post(
      address,
      '/v1/inbox/ack',
      bearer,
      `"{\\"ids\\":[$(${leased} | grep -o '"evt_[0-9A-Za-z]*"' | paste -sd, -)]}"`,
    ),
  ];
}

function moreKeys(server: Announced): BannerLine[] {
  const path = server.adminToken.path;
  const token = path === null ? '$SLUICE_ADMIN_TOKEN' : `$(cat ${shellQuote(path)})`;
  const body = shellQuote('{"name":"another"}');
  if (server.engine === 'postgres') {
    return [
      text('Make an org, whose first key comes with it, with the admin token in $SLUICE_ADMIN_TOKEN:'),
      post(server.address, '/v1/orgs', `-H "Authorization: Bearer ${token}"`, body),
    ];
  }
  return [
    text('Make another key, with one you have in $KEY:'),
    post(server.address, '/v1/keys', '-H "Authorization: Bearer $KEY"', body),
    text('or another org, whose first key comes with it, with the admin token:'),
    post(server.address, '/v1/orgs', `-H "Authorization: Bearer ${token}"`, body),
  ];
}

function whereThingsAre({ engine, dataDir, adminToken }: Announced): BannerLine[] {
  if (engine === 'postgres') return [text('Data: in the PostgreSQL database of DATABASE_URL.')];
  const lines = [text(`Data: in ${dataDir}, on the embedded database.`)];
  const path = adminToken.path;
  if (path !== null) {
    lines.push(text(`Admin token: ${adminToken.isNew ? `${adminToken.value}, kept in` : 'in'} ${path}`));
  }
  const token = path === null ? '"$SLUICE_ADMIN_TOKEN"' : `"$(cat ${shellQuote(path)})"`;
  lines.push(
    text('To store in PostgreSQL instead (a new, empty log; docs/export.md tells how to take this one along):'),
    text(`  DATABASE_URL=postgres://user:password@host:5432/sluice SLUICE_ADMIN_TOKEN=${token} npm start`),
  );
  return lines;
}

/** `authorization` and `body` are shell words, quoted already. */
function post(address: string, path: string, authorization: string, body: string): BannerLine {
  const url = shellQuote(`${address}${path}`);
  return {
    text: `curl -sS -X POST ${url} ${authorization} -H 'Content-Type: application/json' -d ${body}`,
    kind: 'command',
  };
}

function text(line: string): BannerLine {
  return { text: line, kind: 'text' };
}

/** One word to a POSIX shell, whatever is in it. Inside `$(…)`, quoting begins anew, even between double quotes. */
export function shellQuote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
