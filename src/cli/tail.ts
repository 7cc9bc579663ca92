/** `sluice tail`: the log as it grows. */
import { sleep, systemClientClock } from '../client/clock.js';
import type { Sluice } from '../client/index.js';
import type { RunCommand } from './client-command.js';

const pollMs = 1_000;
const pageSize = 500;

/** A server that is restarted is waited for. */
const retry = { attemptsMax: 1_000, totalSeconds: 600 };

interface Place {
  readonly id: string;
  readonly received_at: string;
}

/**
 * Ids sort in the order of the log, so what was passed is known by one id; a list begins at a time, which several events may share. Each round
 * asks for the newest event of any type first: everything up to it is behind, however few of it were asked for.
 */
export const runTail: RunCommand = async ({ invocation, client, out, signal }) => {
  const types = invocation.values.get('type');
  let since = invocation.values.get('since')?.[0];
  let lastId = '';
  try {
    // Without long retries: what is wrong from the first is said at once.
    const first = await newest(client(), signal);
    if (since === undefined && first !== null) {
      since = first.received_at;
      lastId = first.id;
    }
    const sluice = client({ retry });
    for (;;) {
      const end = await newest(sluice, signal);
      if (end !== null && end.id > lastId) {
        const filter = { ...(types === undefined ? {} : { types }), ...(since === undefined ? {} : { since }) };
        for await (const event of sluice.events.list({ ...filter, order: 'asc', pageSize, rawPayload: true, signal })) {
          if (event.id <= lastId) continue;
          await out.event(event);
          lastId = event.id;
        }
        if (end.id > lastId) lastId = end.id;
        since = end.received_at;
      }
      await sleep(systemClientClock, pollMs, signal);
    }
  } catch (error) {
    if (signal.aborted) return 0;
    throw error;
  }
};

async function newest(sluice: Sluice, signal: AbortSignal): Promise<Place | null> {
  const fields = ['id', 'received_at'] as const;
  for await (const event of sluice.events.list({ pageSize: 1, fields, signal })) return event;
  return null;
}
