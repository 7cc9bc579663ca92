import { systemClock } from '../../src/clock.js';
import { lockFolder } from '../../src/db/folder-lock.js';

/** A process that takes the folder it is given, says what came of it, and stays until it is ended. */
try {
  await lockFolder(process.argv[2] ?? '', { clock: systemClock, onLost: () => process.exit(1) });
  // The lock does not keep a process alive; listening to its parent does.
  process.on('message', () => {});
  process.send?.('taken');
} catch (error) {
  process.send?.(String(error));
}
