import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { breakingChanges } from '../support/breaking-changes.js';
import { documentPath } from '../support/document.js';
import { builtDocument } from '../support/documented.js';

/** A test edits it freely. */
// oxlint-disable-next-line typescript/no-explicit-any
type Document = any;

const built: Document = JSON.parse(JSON.stringify(builtDocument()));

test('nothing breaks for a client of the last release; a break that is meant: npm run openapi -- --release', () => {
  const released: Document = JSON.parse(readFileSync(documentPath('openapi.released.json'), 'utf8'));
  assert.deepEqual(breakingChanges(released, built), []);
});

const bodyOf = (document: Document, path: string, method = 'post'): Document =>
  document.paths[path][method].requestBody.content['application/json'].schema;
const queryOf = (document: Document, path: string, name: string): Document =>
  document.paths[path].get.parameters.find((parameter: Document) => parameter.name === name);
const schemaOf = (document: Document, name: string): Document => document.components.schemas[name];

const breaks: Record<string, (document: Document) => void> = {
  'a route that is gone': (document) => delete document.paths['/v1/audit'],
  'a method that is gone': (document) => delete document.paths['/v1/keys/{id}'].delete,
  'a route of another name': (document) => (document.paths['/v1/org'].get.operationId = 'readOrg'),
  'a reply that is gone': (document) => delete document.paths['/v1/events'].post.responses['200'],
  'a header that is gone': (document) => delete document.paths['/v1/events'].post.responses['201'].headers.Location,
  'a media type that is no longer sent': (document) =>
    delete document.paths['/v1/events/{id}'].get.responses['200'].content['application/cloudevents+json'],
  'a media type that is no longer taken': (document) =>
    delete document.paths['/v1/events/batch'].post.requestBody.content['application/x-ndjson'],
  'a parameter that is gone': (document) => (document.paths['/v1/events'].get.parameters = []),
  'a parameter that is required': (document) => (queryOf(document, '/v1/events', 'type').required = true),
  'a new required parameter': (document) =>
    document.paths['/v1/keys'].get.parameters.push({ name: 'of', in: 'query', required: true, schema: {} }),
  'a lower limit of a parameter': (document) => (queryOf(document, '/v1/events', 'limit').schema.maximum = 100),
  'a value that is no longer taken': (document) => queryOf(document, '/v1/inbox', 'status').schema.enum.pop(),
  'a field of a body that is gone': (document) => delete bodyOf(document, '/v1/inbox/receive').properties.wait_seconds,
  'a field of a body that is required': (document) => (bodyOf(document, '/v1/inbox/receive').required = ['max']),
  'a new required field of a body': (document) => {
    bodyOf(document, '/v1/keys').properties.owner = { type: 'string' };
    bodyOf(document, '/v1/keys').required.push('owner');
  },
  'a field of a body of another type': (document) =>
    (bodyOf(document, '/v1/inbox/receive').properties.max.type = 'string'),
  'a number of which only integers are taken': (document) =>
    (bodyOf(document, '/v1/inbox/receive').properties.wait_seconds.type = 'integer'),
  'a lower limit of a list': (document) => (bodyOf(document, '/v1/inbox/ack').properties.ids.maxItems = 10),
  'a higher least value': (document) => (bodyOf(document, '/v1/inbox/extend').properties.lease_seconds.minimum = 5),
  'a shorter text': (document) => (schemaOf(document, 'NewEvent').properties.dedup_id.maxLength = 64),
  'another pattern': (document) => (schemaOf(document, 'NewEvent').properties.type.pattern = '^[a-z.]+$'),
  'a field that may no longer be null': (document) =>
    (schemaOf(document, 'NewEvent').properties.subject.type = 'string'),
  'a lower limit that no schema says': (document) => (document['x-limits'].keys = 50),
  'a limit that is no longer told': (document) => delete document['x-limits'].inboxes,
  'a smaller batch': (document) =>
    (document.paths['/v1/events/batch'].post.requestBody.content['application/json'].schema.maxItems = 100),
  'a smaller body': (document) => (document.paths['/v1/events/batch'].post.requestBody['x-bytes-max'] = 1_000_000),
  'a body that is required': (document) => (document.paths['/v1/inbox/receive'].post.requestBody.required = true),
  'a field of a reply that is gone': (document) => delete schemaOf(document, 'Key').properties.prefix,
  'a field of a reply that may be absent': (document) => schemaOf(document, 'Receipt').required.pop(),
  'a field of an event that may be absent': (document) => schemaOf(document, 'Event')['x-present-without-fields'].pop(),
  'a field of a reply that may be null': (document) =>
    (schemaOf(document, 'Key').properties.name.type = ['string', 'null']),
  'a field of a reply of another type': (document) =>
    (schemaOf(document, 'InboxStats').properties.pending.type = 'string'),
  'a new value in a reply': (document) => schemaOf(document, 'InboxEvent').properties.status.enum.push('lost'),
  'a field of a reply of another form': (document) => (schemaOf(document, 'Event').properties.id.pattern = '^[0-9]+$'),
  'another scope': (document) => (document.paths['/v1/inbox/ack'].post.security = [{ bearer: ['org:manage'] }]),
  'a way to authenticate that is gone': (document) => document.paths['/v1/inbox'].get.security.pop(),
  'a route that is no longer public': (document) => (document.paths['/healthz'].get.security = [{ adminToken: [] }]),
};

const additions: Record<string, (document: Document) => void> = {
  'a new route': (document) => (document.paths['/v1/new'] = { get: { operationId: 'new', responses: {} } }),
  'a new optional parameter': (document) =>
    document.paths['/v1/keys'].get.parameters.push({ name: 'of', in: 'query', required: false, schema: {} }),
  'a new optional field of a body': (document) => (bodyOf(document, '/v1/keys').properties.owner = { type: 'string' }),
  'a field of a body that is no longer required': (document) => (bodyOf(document, '/v1/keys').required = []),
  'a higher limit that no schema says': (document) => (document['x-limits'].keys = 500),
  'a higher limit': (document) => (queryOf(document, '/v1/events', 'limit').schema.maximum = 5_000),
  'a value that is taken now': (document) => queryOf(document, '/v1/inbox', 'status').schema.enum.push('lost'),
  'a new field of a reply': (document) => {
    schemaOf(document, 'Key').properties.owner = { type: 'string' };
    schemaOf(document, 'Key').required.push('owner');
  },
  'a new refusal': (document) =>
    (document.paths['/v1/org'].get.responses['409'] = document.paths['/v1/keys'].post.responses['409']),
  'a route that is public now': (document) => (document.paths['/metrics'].get.security = []),
  'another text': (document) => (document.paths['/v1/org'].get.summary = 'Read'),
};

describe('a change that breaks a client is found:', () => {
  for (const [name, edit] of Object.entries(breaks)) {
    test(name, () => {
      const edited = structuredClone(built);
      edit(edited);
      assert.notDeepEqual(edited, built, 'the edit changes nothing');
      assert.ok(breakingChanges(built, edited).length > 0);
    });
  }
});

describe('what is added breaks nobody:', () => {
  for (const [name, edit] of Object.entries(additions)) {
    test(name, () => {
      const edited = structuredClone(built);
      edit(edited);
      assert.notDeepEqual(edited, built, 'the edit changes nothing');
      assert.deepEqual(breakingChanges(built, edited), []);
    });
  }
});
