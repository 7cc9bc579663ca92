import type { TObject, TSchema } from '@sinclair/typebox';
import { errorTable } from '../../errors.js';
import type { ErrorCode } from '../../errors.js';
import { bodyBytesMax } from '../../ingest/envelope.js';
import { jsonOnly } from '../admit.js';
import type { Route } from '../route.js';
import type { Example } from './example.js';
import { replyTypeOf } from './example.js';
import type { HeaderName } from './headers.js';
import { rateLimitHeaders, requestHeaders } from './headers.js';
import type { JsonSchema, SchemaComponents } from './json-schema.js';
import { fieldTexts } from './field-texts.js';
import { codesOf } from './problems.js';
import { problem } from './replies.js';

type Plain = Readonly<Record<string, unknown>>;

/** The path as the document writes it: `/v1/events/{id}`. */
export function pathTemplate({ path }: Pick<Route, 'path'>): string {
  return path.replaceAll(/:(\w+)/g, '{$1}');
}

/** The same routes lead to the inbox `default` and to a named one, under two ids. */
export function operationId({ path, docs }: Pick<Route, 'path' | 'docs'>): string {
  return docs.group === 'Inbox' && path.startsWith('/v1/inboxes/') ? `${docs.id}Named` : docs.id;
}

/** What operations share. */
export interface Components {
  readonly schemas: SchemaComponents;
  readonly responses: Record<string, Plain>;
}

export function operationOf(route: Route, components: Components, all: readonly Example[]): Plain {
  const { docs, access, bucket } = route;
  const id = operationId(route);
  const examples = all.filter(({ operation }) => operation === id);
  const parameters = [
    ...pathParameters(route, examples),
    ...queryParameters(route.query, components.schemas),
    ...headerParameters(route),
  ];
  const requestBody = requestBodyOf(route, components.schemas, examples);
  return {
    operationId: id,
    tags: [docs.group],
    summary: docs.summary,
    description: [...(docs.description === undefined ? [] : [docs.description]), ...costOf(route)].join('\n'),
    ...(parameters.length > 0 && { parameters }),
    ...(requestBody !== null && { requestBody }),
    responses: { ...repliesOf(route, components.schemas, examples), ...refusalsOf(route, components, examples) },
    security: securityOf(access),
    ...(bucket !== null && { 'x-bucket': bucket }),
  };
}

function securityOf(access: Route['access']): readonly Plain[] {
  if (access === 'public') return [];
  if (access === 'admin') return [{ adminToken: [] }];
  const scopes = access === 'any_key' ? [] : [access];
  return [{ bearer: scopes }, { apiKey: scopes }];
}

function costOf({ access, bucket, cost }: Route): readonly string[] {
  if (bucket === null) return [];
  const scope = access === 'any_key' ? 'Needs a key, of any scope.' : `Needs the scope \`${access}\`.`;
  const tokens = cost === 'counted' ? 'a token for each event' : 'one token';
  return [`${scope} Costs ${tokens} of the ${bucket} bucket.`];
}

function pathParameters({ path, docs }: Route, examples: readonly Example[]): readonly Plain[] {
  const names = Array.from(path.matchAll(/:(\w+)/g), ([, name]) => name ?? '');
  return names.map((name) => {
    const example = examples[0]?.request.params?.[name];
    return {
      name,
      in: 'path',
      required: true,
      description: pathTexts[name === 'id' ? docs.group : name],
      schema: { type: 'string' },
      ...(example !== undefined && { example }),
    };
  });
}

/** By name; an `id` by the group. */
const pathTexts: Readonly<Record<string, string>> = {
  Events: 'The id of an event.',
  Keys: 'The id of a key.',
  Administration: 'The id of an organisation.',
  event_id: 'The id of an event.',
  name: 'The name of an inbox.',
  Organisation: 'The id of an erasure.',
  subject: 'Whom the events are about: 1 to 255 characters, percent-encoded.',
};

/** Where a parameter means another thing than a field of its name. */
const queryTexts: Readonly<Record<string, string>> = {
  type: 'Only events of this type. A pattern such as `user.*` means `user.` and whatever follows, `*` all. May be repeated.',
  status: 'Only events of which the inbox has done this.',
};

function queryParameters(query: TObject | undefined, components: SchemaComponents): readonly Plain[] {
  return Object.entries((query?.properties ?? {}) as Record<string, TSchema>).map(([name, field]) => {
    const schema = components.of(field);
    return {
      name,
      in: 'query',
      required: query?.required?.includes(name) ?? false,
      description: queryTexts[name] ?? fieldTexts[name],
      schema,
      ...(schema['type'] === 'array' && { style: 'form', explode: true }),
    };
  });
}

function headerParameters({ docs }: Route): readonly Plain[] {
  return (docs.requestHeaders ?? []).map((name) => ({ name, in: 'header', required: false, ...requestHeaders[name] }));
}

function requestBodyOf(route: Route, components: SchemaComponents, examples: readonly Example[]): Plain | null {
  const { body, bodyLimit, docs, mediaTypes = jsonOnly } = route;
  if (body === undefined) return null;
  const schemas: Readonly<Record<string, TSchema>> =
    body === 'raw' ? (docs.bodies ?? {}) : Object.fromEntries(mediaTypes.map((mediaType) => [mediaType, body]));
  const content = Object.entries(schemas).map(([mediaType, schema]) => {
    const shown = examples.filter(
      ({ request, reply }) =>
        request.body !== undefined && (request.mediaType ?? 'application/json') === mediaType && reply.status < 400,
    );
    return [mediaType, { schema: components.of(schema), ...examplesOf(route, shown, ({ request }) => request.body) }];
  });
  const bytesMax = bodyLimit?.bytesMax ?? bodyBytesMax;
  return {
    // Where every field is optional, no body is the body without fields.
    required: body === 'raw' || (body.required?.length ?? 0) > 0,
    description: `At most ${bytesMax.toLocaleString('en-US')} bytes, also when \`Content-Encoding: gzip\` is undone.`,
    content: Object.fromEntries(content),
    'x-bytes-max': bytesMax,
  };
}

function examplesOf(route: Route, examples: readonly Example[], valueOf: (example: Example) => unknown): Plain {
  if (examples.length === 0) return {};
  const shown = examples.map((example) => [
    example.name,
    { summary: requestLine(route, example), value: valueOf(example) },
  ]);
  return { examples: Object.fromEntries(shown) };
}

/** `GET /v1/events?type=a`, and the headers that matter. */
function requestLine(route: Route, { request }: Example): string {
  const path = pathTemplate(route).replaceAll(/\{(\w+)\}/g, (_, name: string) => request.params?.[name] ?? '');
  const query = request.query === undefined ? '' : `?${String(new URLSearchParams(request.query))}`;
  const headers = Object.entries(request.headers ?? {}).map(([name, value]) => `, ${name}: ${value}`);
  return `${route.method} ${path}${query}${headers.join('')}`;
}

function repliesOf(route: Route, components: SchemaComponents, examples: readonly Example[]): Plain {
  const replies = Object.entries(route.docs.replies).map(([status, { description, content, headers = [] }]) => {
    const limits = route.bucket === null ? [] : rateLimitHeaders;
    const types = Object.entries(content ?? {}).map(([mediaType, schema]) => {
      const shown = examples.filter(
        (example) => example.reply.status === Number(status) && replyTypeOf(example) === mediaType,
      );
      return [mediaType, { schema: components.of(schema), ...examplesOf(route, shown, ({ reply }) => reply.body) }];
    });
    const body = content === undefined ? {} : { content: Object.fromEntries(types) };
    return [status, { description, headers: headersOf(...headers, ...limits), ...body }];
  });
  return Object.fromEntries(replies);
}

/** A reply for each status that some code has. Most routes share theirs, so these stand among the components, under their status and codes. */
function refusalsOf(route: Route, components: Components, examples: readonly Example[]): Plain {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of codesOf(route)) {
    const { status } = errorTable[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const refusals = Array.from(byStatus, ([status, codes]) => {
    const own = route.docs.replies as Readonly<Record<number, unknown>>;
    if (status in own) throw new Error(`${route.path}: ${status} is a reply and a refusal`);
    const special = status === 422 ? route.docs.problem : undefined;
    const schema = { allOf: [components.schemas.of(special ?? problem), ofCodes(codes)] };
    const description = codes.map((code) => `\`${code}\`: ${errorTable[code].title}.`).join(' ');
    const shown = examples.filter(({ reply }) => reply.status === status);
    const content = { schema, ...examplesOf(route, shown, ({ reply }) => reply.body) };
    const headers = headersOf(...refusalHeaders(codes));
    const refusal = { description, headers, content: { 'application/problem+json': content } };
    if (special !== undefined || shown.length > 0) return [status, refusal];
    const name = [status, ...codes].join('.');
    components.responses[name] = refusal;
    return [status, { $ref: `#/components/responses/${name}` }];
  });
  return Object.fromEntries(refusals);
}

function ofCodes(codes: readonly ErrorCode[]): JsonSchema {
  return { properties: { code: { enum: codes } } };
}

function refusalHeaders(codes: readonly ErrorCode[]): readonly HeaderName[] {
  const [code] = codes;
  const status = code === undefined ? 0 : errorTable[code].status;
  if (status === 401) return ['WWW-Authenticate'];
  if (status === 429) return ['Retry-After', ...rateLimitHeaders];
  return status === 503 ? ['Retry-After'] : [];
}

function headersOf(...names: readonly HeaderName[]): Plain {
  return Object.fromEntries(['X-Request-Id', ...names].map((name) => [name, { $ref: `#/components/headers/${name}` }]));
}
