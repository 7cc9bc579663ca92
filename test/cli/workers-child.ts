/** `sluice start --workers 2` with servers that are not there. The argument says what they do. */
import { fileURLToPath } from 'node:url';
import { keepAlive } from '../../src/clock.js';
import { say } from '../../src/cli/start.js';
import { startWorkers } from '../../src/cli/workers.js';
import { readInvocation } from '../../src/config.js';

const behaviour = process.argv[2];
const invocation = readInvocation([], {
  SLUICE_WORKERS: '2',
  SLUICE_SHUTDOWN_SECONDS: '5',
  DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
  SLUICE_ADMIN_TOKEN: 'test-admin-token-0123456789',
});
if (invocation.kind !== 'start') throw new Error('unreachable');

await startWorkers(invocation.config, invocation.notices, {
  module: fileURLToPath(import.meta.url),
  // One that is silent for a second and a half hangs.
  ...(behaviour === 'hangs' ? { beatMs: 100 } : {}),
  prepare: () => Promise.resolve(),
  async startServer(_config, _log, onProgress) {
    keepAlive();
    onProgress('opening');
    if (behaviour === 'never-ready') {
      // It is waited for before it is stopped, so it becomes ready then.
      await new Promise<void>((resolve) => process.on('message', () => resolve()));
    }
    if (behaviour === 'hangs') {
      // By these, which come as often as its signs of life, a test knows that time has passed for it.
      let tick = 0;
      setInterval(() => say(`tick ${++tick} of ${process.pid}`), 100);
      process.on('SIGUSR2', () => {
        for (;;);
      });
    }
    // After a moment in which it serves.
    if (behaviour === 'crash') setTimeout(() => process.exit(7), 20);
    return {
      address: 'http://127.0.0.1:8080',
      engine: 'postgres',
      role: 'all',
      dataDir: null,
      adminToken: { value: 'token', path: null, isNew: false },
      firstStart: null,
      announced: () => Promise.resolve(),
      async stop() {
        say('stop called');
        if (behaviour === 'never-stops') await new Promise(() => {});
      },
    };
  },
});
