import { systemClock } from '../../src/clock.js';
import { openEmbedded } from '../../src/db/embedded.js';

/** A process that opens the embedded engine on the folder it is given, says `open`, and stays until it is ended. */
await openEmbedded({
  dataDir: process.argv[2] ?? '',
  clock: systemClock,
  onLog: () => {},
  onLockLost: () => process.exit(1),
});
process.send?.('open');
