/** Handles events until it is ended: `SLUICE_KEY=slk_live_… node dist/examples/consume.js`. */
import { Sluice } from 'sluice/client';

const sluice = new Sluice({
  url: process.env['SLUICE_URL'] ?? 'http://127.0.0.1:8080',
  key: process.env['SLUICE_KEY'] ?? '',
});

// What has begun is finished and acknowledged, what has not is given back.
const ended = new AbortController();
process.once('SIGTERM', () => ended.abort()).once('SIGINT', () => ended.abort());

await sluice.inbox('default').consume(
  async (event, { signal }) => {
    // An event may come more than once, so do what may be done twice. What throws is handed out again, a little later.
    // `signal` ends what is pointless to go on with: another consumer has the event by then.
    signal.throwIfAborted();
    console.log(`${event.type} ${event.id}: ${JSON.stringify(event.payload)}`);
  },
  { concurrency: 5, signal: ended.signal, onError: (error) => console.error(error) },
);

console.log('ended');
