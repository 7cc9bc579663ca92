/** `npm start`: installs and builds if needed, then becomes the server, in this very process, so that a signal to it reaches the server. */
import { prepare } from './prepare.mjs';

await prepare();
await import('../dist/src/main.js');
