/** `npm run bench -- [arguments]`: installs and builds if needed, then runs the benchmark. */
import { prepare } from './prepare.mjs';

await prepare();
await import('../dist/bench/main.js');
