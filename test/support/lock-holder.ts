import { systemClock } from '../../src/clock.js';
import { lockFolder } from '../../src/db/folder-lock.js';
import type { FolderLock } from '../../src/db/folder-lock.js';

/** A process that, told `take`, takes the folder it is given and says what came of it; told `release`, gives it away. Stays until it is ended. */
let lock: FolderLock | undefined;
process.on(
  'message',
  (order) => void (order === 'take' ? take() : release()).then((outcome) => process.send?.(outcome)),
);

async function take(): Promise<string> {
  try {
    lock = await lockFolder(process.argv[2] ?? '', { clock: systemClock, onLost: () => process.exit(1) });
    return 'taken';
  } catch (error) {
    return String(error);
  }
}

async function release(): Promise<string> {
  await lock?.release();
  lock = undefined;
  return 'released';
}
