/** The client of Sluice for TypeScript and JavaScript. It needs nothing but `fetch`, and nothing else of this package. */
export { Sluice } from './sluice.js';
export type { SluiceOptions } from './sluice.js';
export { SluiceError } from './error.js';
export type { ClientErrorCode, FieldError } from './error.js';
export type { RetryLimits } from './retry.js';
export type { EventField, EventText, NewEvent, ReadEvent, ReadOptions, StoredEvent } from './event.js';
export type { EventDelivery, EventListOptions, Events, Receipt } from './events.js';
export type { Durability, SendResult } from './batch.js';
export type { SendManyOptions, SendOutcome, SendSummary } from './send-many.js';
export type {
  Acknowledgement,
  Delivery,
  EventStatus,
  Inbox,
  InboxEvent,
  InboxListOptions,
  InboxStats,
  ReceivedEvent,
  ReceiveOptions,
  Target,
} from './inbox.js';
export type { ConsumeOptions, Handler, HandlerContext } from './consumer.js';
export type { InboxDescription, Inboxes, InboxSpec } from './inboxes.js';
export type { Key, Keys, KeySpec, NewKey, Scope } from './keys.js';
export type { NewOrg, Org, OrgChange, OrgLimits, Orgs, OwnOrg, Tier } from './orgs.js';
export type { ListOptions } from './pages.js';
export type { ClientClock } from './clock.js';
