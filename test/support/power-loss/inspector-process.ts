import { flawsOf } from './checks.js';
import type { Inspection } from './inspector.js';

/** The other end of `Inspector`: answers each order with what is wrong, a line each. */
process.on('message', ({ dataDir, sendings, consumed, orgs }: Inspection) => {
  void flawsOf(dataDir, { sendings, consumed }, orgs).then((flaws) => process.send?.(flaws));
});
process.on('disconnect', () => process.exit());
