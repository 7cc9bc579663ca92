/** Sends events while they are made, however many: `SLUICE_KEY=slk_live_… node dist/examples/send-many.js`. */
import { Sluice } from 'sluice/client';
import type { NewEvent } from 'sluice/client';

const sluice = new Sluice({
  url: process.env['SLUICE_URL'] ?? 'http://127.0.0.1:8080',
  key: process.env['SLUICE_KEY'] ?? '',
});

/** Stands for rows of a table, or lines of a file. It is read only as fast as the events are stored. */
async function* readings(): AsyncGenerator<NewEvent> {
  for (let n = 0; n < 2_500; n++) yield { type: 'sensor.reading', payload: { n }, dedup_id: `reading-${n}` };
}

const { accepted, duplicates, refusals } = await sluice.events.sendMany(readings(), {
  onResults: (outcomes) => console.log(`${outcomes.length} more are done`),
});

console.log(`${accepted} stored, ${duplicates} had been stored before`);
for (const { index, result } of refusals) console.error(`event ${index}: ${result.detail}`);
