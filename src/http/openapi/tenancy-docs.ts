import * as replies from './replies.js';
import type { RouteDocs } from './route-docs.js';
import { jsonReply, noContent } from './route-docs.js';

export const keyDocs = {
  create: {
    id: 'createKey',
    group: 'Keys',
    summary: 'Make a key',
    description:
      'With at most the scopes of the key that asks, which are the default. If that key ends, or lives out its grace, the new one ends with it at the latest.',
    replies: { 201: jsonReply('The key, with its secret.', replies.createdKey) },
    errors: ['limit_reached'],
  },
  list: {
    id: 'listKeys',
    group: 'Keys',
    summary: 'List living keys',
    replies: { 200: jsonReply('A page of keys.', replies.pageOf(replies.key)) },
  },
  current: {
    id: 'readCurrentKey',
    group: 'Keys',
    summary: 'Read the key that asks',
    replies: { 200: jsonReply('The key.', replies.key) },
    errors: ['not_found'],
  },
  rotate: {
    id: 'rotateKey',
    group: 'Keys',
    summary: 'Replace a key by a new one',
    description:
      'The new key has the name, the scopes and the end of the old one, which goes on working for `grace_seconds`. A key that ends cannot replace one that lives longer.',
    replies: { 201: jsonReply('The new key, with its secret.', replies.createdKey) },
    errors: ['limit_reached'],
  },
  remove: {
    id: 'deleteKey',
    group: 'Keys',
    summary: 'Revoke a key',
    description: 'It stops working within a second, everywhere.',
    replies: { 204: noContent('It is revoked.') },
  },
} as const satisfies Record<string, RouteDocs>;

export const erasureDocs = {
  request: {
    id: 'eraseSubject',
    group: 'Organisation',
    summary: 'Erase every event about a subject',
    description:
      'Percent-encode the subject. The events with it that are stored by now are deleted in the background, from the log and from every inbox; later ones are not.\nAsked for again while it is under way, it is the same erasure, which then covers what was stored meanwhile, too.',
    replies: { 202: jsonReply('The erasure that is under way.', replies.erasure, ['Location']) },
    errors: ['limit_reached'],
  },
  read: {
    id: 'readErasure',
    group: 'Organisation',
    summary: 'Read how far an erasure is, and its certificate',
    description: 'The certificate is kept for 365 days.',
    replies: { 200: jsonReply('The erasure.', replies.erasure) },
  },
} as const satisfies Record<string, RouteDocs>;

export const orgDocs = {
  readOwn: {
    id: 'readOwnOrganisation',
    group: 'Organisation',
    summary: 'Read the organisation of the key',
    replies: { 200: jsonReply('The organisation.', replies.org) },
    errors: ['not_found'],
  },
  changeOwn: {
    id: 'changeOwnOrganisation',
    group: 'Organisation',
    summary: 'Change the organisation of the key',
    replies: { 200: jsonReply('The organisation as it is now.', replies.org) },
    errors: ['not_found'],
  },
  audit: {
    id: 'listAudit',
    group: 'Organisation',
    summary: 'Who changed what',
    description: 'Newest first; each row holds the hash of the one before it.',
    replies: { 200: jsonReply('A page of rows.', replies.pageOf(replies.auditRow)) },
  },
  create: {
    id: 'createOrganisation',
    group: 'Administration',
    summary: 'Make an organisation',
    description: 'With its inbox `default` and a first key, which has all scopes.',
    replies: { 201: jsonReply('The organisation, with the secret of its first key.', replies.createdOrg) },
  },
  list: {
    id: 'listOrganisations',
    group: 'Administration',
    summary: 'List organisations',
    replies: { 200: jsonReply('A page of organisations.', replies.pageOf(replies.org)) },
  },
  read: {
    id: 'readOrganisation',
    group: 'Administration',
    summary: 'Read an organisation',
    replies: { 200: jsonReply('The organisation.', replies.org) },
  },
  change: {
    id: 'changeOrganisation',
    group: 'Administration',
    summary: 'Change an organisation',
    replies: { 200: jsonReply('The organisation as it is now.', replies.org) },
  },
  remove: {
    id: 'deleteOrganisation',
    group: 'Administration',
    summary: 'Delete an organisation',
    description: 'Its keys stop working at once; its rows are erased in the background.',
    replies: { 204: noContent('It is gone.') },
  },
} as const satisfies Record<string, RouteDocs>;
