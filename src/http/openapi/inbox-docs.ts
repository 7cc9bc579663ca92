import { Type } from '@sinclair/typebox';
import * as replies from './replies.js';
import type { RouteDocs } from './route-docs.js';
import { eventPageReply, jsonReply, noContent } from './route-docs.js';

const group = 'Inbox';

/** Of the inbox `default`. The same routes of a named inbox have `Named` behind their id. */
export const inboxDocs = {
  receive: {
    id: 'receiveEvents',
    group,
    summary: 'Receive events under a lease',
    description: [
      'What is not acknowledged before the lease ends is handed out again, until it was handed out `max_attempts` times: then it is a dead letter.',
      'The reply stops at 4 MiB, but holds at least one event.',
      'Only as JSON: a batch of CloudEvents has no room for the lease.',
    ].join('\n'),
    replies: { 200: jsonReply('The events, oldest first; none if nothing was pending in time.', replies.received) },
  },
  ack: {
    id: 'acknowledgeEvents',
    group,
    summary: 'Acknowledge events',
    description: 'Either `ids` or `lease_id`. Repeating it is harmless. A lease that has ended settles nothing.',
    replies: { 200: jsonReply('What was settled.', replies.acknowledged) },
    errors: ['not_found', 'limit_reached'],
  },
  nack: {
    id: 'releaseEvents',
    group,
    summary: 'Give events back',
    description: 'Either `ids` or `lease_id`. They are handed out again, as another attempt.',
    replies: { 200: jsonReply('How many were given back.', Type.Object({ released: Type.Integer({ minimum: 0 }) })) },
    errors: ['not_found'],
  },
  extend: {
    id: 'extendLease',
    group,
    summary: 'Let a lease last longer',
    replies: { 200: jsonReply('When the lease ends now.', replies.lease) },
    errors: ['not_found', 'lease_expired'],
  },
  remove: {
    id: 'acknowledgeEvent',
    group,
    summary: 'Acknowledge one event',
    replies: { 204: noContent('It is acknowledged, now or before.') },
    errors: ['limit_reached'],
  },
  seek: {
    id: 'seekInbox',
    group,
    summary: 'Replay or skip',
    description: 'Leases and dead letters from there on end.',
    replies: { 200: jsonReply('Where the inbox goes on.', Type.Object({ to: Type.String() })) },
    errors: ['not_found', 'limit_reached'],
  },
  redrive: {
    id: 'redriveEvents',
    group,
    summary: 'Make dead letters pending again',
    description: 'Either `ids` or `all`.',
    replies: { 200: jsonReply('How many are pending again.', Type.Object({ redriven: Type.Integer({ minimum: 0 }) })) },
  },
  list: {
    id: 'listInboxEvents',
    group,
    summary: 'List what is in the inbox, without taking it',
    description: [
      'Oldest first. Without `status`: what is not delivered, pending and leased.',
      'With `Accept: application/cloudevents-batch+json` as a batch of CloudEvents, without `status` and `attempts`; then `fields` is refused, and the next page is a `Link`.',
    ].join('\n'),
    replies: { 200: eventPageReply(replies.inboxEvent) },
  },
  stats: {
    id: 'readInboxStats',
    group,
    summary: 'Count what is in the inbox',
    replies: { 200: jsonReply('The counts.', replies.stats) },
  },
} as const satisfies Record<string, RouteDocs>;

export const inboxesDocs = {
  create: {
    id: 'createInbox',
    group: 'Inboxes',
    summary: 'Make an inbox',
    replies: { 201: jsonReply('The inbox.', replies.inbox, ['Location']) },
    errors: ['not_found', 'name_taken', 'limit_reached'],
  },
  list: {
    id: 'listInboxes',
    group: 'Inboxes',
    summary: 'List inboxes',
    replies: { 200: jsonReply('A page of inboxes, by name.', replies.pageOf(replies.inbox)) },
  },
  read: {
    id: 'readInbox',
    group: 'Inboxes',
    summary: 'Read an inbox',
    replies: { 200: jsonReply('The inbox.', replies.inbox) },
  },
  change: {
    id: 'changeInbox',
    group: 'Inboxes',
    summary: 'Change an inbox',
    replies: { 200: jsonReply('The inbox as it is now.', replies.inbox) },
    errors: ['limit_reached'],
  },
  remove: {
    id: 'deleteInbox',
    group: 'Inboxes',
    summary: 'Delete an inbox',
    description: 'With what it has still to do; the events stay in the log. The inbox `default` cannot be deleted.',
    replies: { 204: noContent('It is gone.') },
  },
} as const satisfies Record<string, RouteDocs>;
