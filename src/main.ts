#!/usr/bin/env node
/**
 * The process: arguments in, exit code out (0 stopped cleanly, 1 failed, 2 flags or variables that cannot be used). What takes long to load is
 * loaded only once it is known to be needed.
 */
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import type { StartServer } from './cli/start.js';
import type { Prepare } from './cli/workers.js';
import { readInvocation, UsageError } from './config.js';
import type { Invocation } from './config.js';

const startServer: StartServer = async (...args) => (await import('./app.js')).startServer(...args);
const prepare: Prepare = async (...args) => (await import('./app.js')).prepareStorage(...args);

await main();

async function main(): Promise<void> {
  let invocation: Invocation;
  try {
    invocation = readInvocation(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${[...error.problems, error.hint].join('\n')}\n`);
    process.exitCode = 2;
    return;
  }
  switch (invocation.kind) {
    case 'help': {
      const { commandHelpText, helpText } = await import('./cli/help.js');
      process.stdout.write(`${invocation.topic === null ? helpText() : commandHelpText(invocation.topic)}\n`);
      return;
    }
    case 'version': {
      const { version } = await import('./cli/version.js');
      process.stdout.write(`${version()}\n`);
      return;
    }
    case 'export': {
      const { runExport } = await import('./cli/export.js');
      process.exitCode = await runExport(invocation);
      return;
    }
    case 'import': {
      const { runImport } = await import('./cli/import.js');
      process.exitCode = await runImport(invocation);
      return;
    }
    case 'client': {
      const { runClientCommand } = await import('./cli/client-command.js');
      process.exitCode = await runClientCommand(invocation);
      return;
    }
    case 'audit': {
      const { runAuditVerify } = await import('./cli/audit.js');
      process.exitCode = await runAuditVerify(invocation);
      return;
    }
    case 'migrate': {
      const { runMigrate } = await import('./cli/migrate.js');
      process.exitCode = await runMigrate(invocation);
      return;
    }
    case 'restored': {
      const { runRestored } = await import('./cli/restored.js');
      process.exitCode = await runRestored(invocation);
      return;
    }
    case 'verify': {
      const { runVerify } = await import('./cli/verify.js');
      process.exitCode = await runVerify(invocation);
      return;
    }
    case 'start': {
      const { config, notices } = invocation;
      // Else V8 may come to make a list that each response has in the old generation from some moment on: the list of a response that is gone
      // keeps all of it through every minor collection. (docs/performance.md)
      setFlagsFromString('--no-allocation-site-pretenuring');
      if (config.workers > 1) {
        const { startWorkers } = await import('./cli/workers.js');
        await startWorkers(config, notices, { startServer, prepare, module: fileURLToPath(import.meta.url) });
        return;
      }
      const { say, start } = await import('./cli/start.js');
      for (const notice of notices) say(notice);
      await start(config, startServer);
    }
  }
}
