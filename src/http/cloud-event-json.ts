import type { EventRow } from '../db/sql/events.js';
import { formatTime } from '../time-format.js';
import { eventId } from './event-json.js';

/** Where an event comes from that was not sent as a CloudEvent; its id is unique there. */
const ownSource = '/v1/events';

/**
 * An event in the JSON format of CloudEvents 1.0: as it was sent, if it was sent as one, else under its own id. The data is spliced in as the bytes that
 * were stored.
 */
export function cloudEventJson(org: string, event: EventRow): string {
  const { data, ...sent } = event.attributes ?? {};
  const occurredAt = event.occurred_at ?? event.received_at;
  const own = {
    specversion: '1.0',
    id: eventId(org, event),
    source: ownSource,
    time: formatTime(occurredAt.getTime()),
    datacontenttype: 'application/json',
  };
  const subject = event.subject === null ? {} : { subject: event.subject };
  const attributes = { ...(sent['specversion'] === undefined ? own : sent), type: event.type, ...subject };
  const members = JSON.stringify(attributes).slice(0, -1);
  if (data === 'absent') return `${members}}`;
  return `${members},"${data === 'base64' ? 'data_base64' : 'data'}":${event.payload ?? 'null'}}`;
}
