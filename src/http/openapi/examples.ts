import type { Example } from './example.js';
import { eventExamples } from './examples-event.js';
import { inboxExamples } from './examples-inbox.js';
import { inboxesExamples } from './examples-inboxes.js';
import { lastExamples } from './examples-last.js';
import { tenancyExamples } from './examples-tenancy.js';

/** One story, in the order in which the tests send it: later requests name what earlier ones made. */
export const examples: readonly Example[] = [
  ...tenancyExamples,
  ...eventExamples,
  ...inboxesExamples,
  ...inboxExamples,
  ...inboxExamples.map(inNamedInbox),
  ...lastExamples,
];

function inNamedInbox(example: Example): Example {
  const request = { ...example.request, params: { name: 'orders', ...example.request.params } };
  return { ...example, operation: `${example.operation}Named`, request };
}
