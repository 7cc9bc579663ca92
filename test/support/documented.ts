/** Holds replies against the document of the API: a reply that it does not tell of fails the test that got it. */
import assert from 'node:assert/strict';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { ValidateFunction } from 'ajv/dist/2020.js';
import type { OpenApiDocument } from '../../src/http/openapi/document.js';
import { documentOf } from '../../src/http/routes/documentation.js';
import type { RouteTableOptions } from '../../src/http/routes/table.js';
import { routeTable } from '../../src/http/routes/table.js';
import { parseTime } from '../../src/time-format.js';

type Schema = Readonly<Record<string, unknown>>;

interface DocumentedReply {
  readonly headers?: Readonly<Record<string, unknown>>;
  readonly content?: Readonly<Record<string, { readonly schema: Schema }>>;
}

export interface Operation {
  readonly operationId: string;
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, DocumentedReply & { readonly $ref?: string }>>;
}

export interface SeenReply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** The document as the program makes it. Making the table does nothing, so the routes need no parts. */
export function builtDocument(): OpenApiDocument {
  return documentOf(routeTable({} as RouteTableOptions));
}

const document = builtDocument();
const schemas = document.components.schemas;
const sharedReplies = document.components['responses'] as Readonly<Record<string, DocumentedReply>>;
const sharedHeaders = document.components['headers'] as Readonly<
  Record<string, { readonly schema: Schema; readonly required: boolean }>
>;

export const ajv = new Ajv2020({
  strict: false,
  formats: { 'date-time': (text: string) => 'ms' in parseTime(text) },
});

/** Of any request that no route takes. */
const routeless = new Set([400, 404, 405, 408, 414, 431]);

/** Throws an AssertionError for a status, header, media type, field or value that is not documented. `sent` is the body as the test gave it. */
export function assertDocumented(method: string, path: string, reply: SeenReply, sent?: unknown): void {
  const { status, headers, text } = reply;
  const operation = operationAt(method, path);
  const shown = `${method} ${path.slice(0, 200)}: ${status} ${text.slice(0, 500)}`;
  if (operation === undefined) {
    assert.ok(routeless.has(status), `no documented route, ${shown}`);
    return;
  }
  const documented = replyOf(operation, status);
  assert.ok(documented, `the status is not documented: ${shown}`);
  for (const name of Object.keys(documented.headers ?? {})) {
    const value = headers.get(name);
    if (value === null && sharedHeaders[name]?.required === false) continue;
    assert.notEqual(value, null, `the header ${name} is documented: ${shown}`);
    if (sharedHeaders[name]?.schema['type'] === 'integer') assert.match(value ?? '', /^\d+$/, `${name}: ${shown}`);
  }
  if (method === 'HEAD') return;
  const mediaType = headers.get('content-type')?.split(';', 1)[0];
  const types = Object.keys(documented.content ?? {});
  if (types.length === 0) {
    assert.equal(text, '', `no body is documented: ${shown}`);
    return;
  }
  assert.ok(mediaType !== undefined && types.includes(mediaType), `${mediaType} is not documented: ${shown}`);
  if (mediaType.endsWith('json')) {
    const hasFields = /[?&]fields=/.test(path);
    const validate = validatorOf(`${operation.operationId} ${status} ${mediaType} ${hasFields}`, () =>
      closed(documented.content?.[mediaType]?.schema ?? {}, hasFields),
    );
    assert.ok(validate(JSON.parse(text)), `${ajv.errorsText(validate.errors)}: ${shown}`);
  }
  if (status < 300 && isPlainObject(sent)) assertTaken(operation, sent, shown);
}

/** What the server took must be what the document says it takes. */
function assertTaken(operation: Operation, sent: unknown, shown: string): void {
  const schema = operation.requestBody?.content['application/json']?.schema;
  if (schema === undefined) return;
  const validate = validatorOf(`${operation.operationId} body`, () => schema);
  // As it was on the wire: without what is undefined.
  assert.ok(
    validate(JSON.parse(JSON.stringify(sent))),
    `was accepted, but ${ajv.errorsText(validate.errors)}: ${shown}`,
  );
}

/** The operation of a request, the path with the fewest parameters first. */
export function operationAt(method: string, path: string): Operation | undefined {
  const verb = method === 'HEAD' ? 'get' : method.toLowerCase();
  const given = path.split(/[?#]/, 1)[0]?.split('/') ?? [];
  const templates = Object.keys(document.paths).filter((template) => {
    const wanted = template.split('/');
    return (
      verb in (document.paths[template] ?? {}) &&
      wanted.length === given.length &&
      wanted.every((part, i) => (part.startsWith('{') ? given[i] !== '' : part === given[i]))
    );
  });
  const best = templates.toSorted((a, b) => a.split('{').length - b.split('{').length)[0];
  return best === undefined ? undefined : (document.paths[best]?.[verb] as Operation);
}

/** Where an operation is. */
export function locate(id: string): { readonly method: string; readonly path: string; readonly operation: Operation } {
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, row] of Object.entries(methods)) {
      const operation = row as Operation;
      if (operation.operationId === id) return { method: method.toUpperCase(), path, operation };
    }
  }
  throw new Error(`no operation ${id}`);
}

function replyOf(operation: Operation, status: number): DocumentedReply | undefined {
  const reply = operation.responses[status];
  return reply?.$ref === undefined ? reply : sharedReplies[reply.$ref.slice(reply.$ref.lastIndexOf('/') + 1)];
}

const validators = new Map<string, ValidateFunction>();
const closedSchemas = [true, false].map((hasFields) =>
  Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, closed(schema, hasFields)])),
);

function validatorOf(name: string, schemaOf: () => Schema): ValidateFunction {
  let validate = validators.get(name);
  if (validate === undefined) {
    const components = name.endsWith('body') ? { schemas } : { schemas: closedSchemas[name.endsWith('true') ? 0 : 1] };
    validate = ajv.compile({ ...schemaOf(), components });
    validators.set(name, validate);
  }
  return validate;
}

/** The schema for this version of the server, which sends no field that is not documented, and every field unless it was asked for some. */
function closed(schema: Schema, hasFields: boolean): Schema {
  const inner = Object.fromEntries(
    Object.entries(schema).map(([key, value]) => {
      if (key === 'properties') {
        const fields = Object.entries(value as Record<string, Schema>);
        return [key, Object.fromEntries(fields.map(([name, field]) => [name, closed(field, hasFields)]))];
      }
      if (Array.isArray(value) && /^(any|all)Of$/.test(key))
        return [key, value.map((part: Schema) => closed(part, hasFields))];
      return [key, key === 'items' ? closed(value as Schema, hasFields) : value];
    }),
  );
  const present = schema['x-present-without-fields'] as readonly string[] | undefined;
  return {
    ...inner,
    ...(schema['type'] === 'object' && !('additionalProperties' in schema) && { additionalProperties: false }),
    ...(present !== undefined && !hasFields && { required: [...present, ...((schema['required'] ?? []) as string[])] }),
  };
}

function isPlainObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}
