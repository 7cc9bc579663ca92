import type { ServerResponse } from 'node:http';

/** Aborted when the client's connection closes before the reply is written: nothing should be leased to nobody. */
export function clientGone(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  if (response.destroyed) controller.abort();
  else response.once('close', () => controller.abort());
  return controller.signal;
}
