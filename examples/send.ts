/** Sends one event: `SLUICE_KEY=slk_live_… node dist/examples/send.js`. */
import { Sluice } from 'sluice/client';

const sluice = new Sluice({
  url: process.env['SLUICE_URL'] ?? 'http://127.0.0.1:8080',
  key: process.env['SLUICE_KEY'] ?? '',
});

// With an id of your own the event is stored once, however often this program runs.
const receipt = await sluice.events.send({
  type: 'user.created',
  payload: { user_id: '12345' },
  dedup_id: 'signup-12345',
});

console.log(receipt.duplicate ? `${receipt.id} was stored before` : `${receipt.id} is stored: ${receipt.durability}`);
