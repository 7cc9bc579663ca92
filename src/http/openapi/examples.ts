import type { Example } from './example.js';

/** In the order in which the tests send them: later ones use what earlier ones made. */
export const examples: readonly Example[] = [];
