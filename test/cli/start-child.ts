/** `sluice start` with a server that is not there. The argument says what it does; `announced` and `stop` show on standard error. */
import { say, start } from '../../src/cli/start.js';
import type { Startable } from '../../src/cli/start.js';
import { readInvocation } from '../../src/config.js';

// The channel keeps this process alive as a listening server would.
process.on('message', () => undefined);

const behaviour = process.argv[2];
const invocation = readInvocation([], { SLUICE_LOG_LEVEL: process.argv[3] ?? 'info' });
if (invocation.kind !== 'start') throw new Error('unreachable');

const server: Startable = {
  address: 'http://127.0.0.1:8080',
  engine: 'embedded',
  role: 'all',
  dataDir: '/data',
  adminToken: { value: 'token', path: '/data/admin-token', isNew: false },
  firstStart: null,
  announced: async () => say('announced'),
  async stop() {
    say('stop called');
    if (behaviour === 'stop-fails') throw new Error('cannot flush');
  },
};

await start(invocation.config, async (_config, _log, onProgress) => {
  onProgress('opening');
  if (behaviour === 'start-fails') throw new Error('the folder is locked; stop process 1');
  // The test's message says that what it wanted to happen before the server is there has happened.
  if (behaviour === 'slow-start') await new Promise((resolve) => process.once('message', resolve));
  if (behaviour === 'crash') setImmediate(() => void Promise.reject(new Error('nobody caught this')));
  return server;
});
