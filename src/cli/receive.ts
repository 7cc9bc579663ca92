/** `sluice receive`: pending events, under a lease. */
import type { RunCommand } from './client-command.js';
import { amount } from './progress.js';
import { say } from './start.js';

export const runReceive: RunCommand = async ({ invocation, client, out, signal }) => {
  const { values, switches } = invocation;
  const number = (flag: string): number | undefined => {
    const text = values.get(flag)?.[0];
    return text === undefined ? undefined : Number(text);
  };
  const name = values.get('inbox')?.[0];
  const inbox = client().inbox(name);
  const [max, waitSeconds, leaseSeconds] = ['max', 'wait', 'lease'].map(number);
  const { lease_id, lease_expires_at, data } = await inbox.receive({
    ...(max === undefined ? {} : { max }),
    ...(waitSeconds === undefined ? {} : { waitSeconds }),
    ...(leaseSeconds === undefined ? {} : { leaseSeconds }),
    rawPayload: true,
    signal,
  });
  for (const event of data) await out.event(event);
  if (lease_id === null) {
    say('Nothing is pending.');
  } else if (switches.has('ack')) {
    const { acknowledged } = await inbox.ack({ leaseId: lease_id });
    say(`Received and acknowledged ${amount(acknowledged, 'event')}.`);
  } else {
    const where = name === undefined ? '' : ` --inbox ${name}`;
    say(
      `${amount(data.length, 'event')} leased until ${lease_expires_at}; acknowledge with: sluice ack --lease ${lease_id}${where}`,
    );
  }
  return 0;
};
