/** The document of the API (OpenAPI 3.1, https://spec.openapis.org/oas/v3.1.1.html), made of the route table. */
import type { Route } from '../route.js';
import type { Limit } from '../limits.js';
import type { Example } from './example.js';
import type { HeaderDocs } from './headers.js';
import { replyHeaders } from './headers.js';
import { SchemaComponents } from './json-schema.js';
import type { JsonSchema } from './json-schema.js';
import type { Components } from './operation.js';
import { operationOf, pathTemplate } from './operation.js';
import { groups } from './route-docs.js';

export interface OpenApiDocument {
  readonly openapi: string;
  readonly info: { readonly description: string } & Readonly<Record<string, unknown>>;
  readonly paths: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, JsonSchema>> } & Readonly<Record<string, unknown>>;
  readonly [member: string]: unknown;
}

/** Version of the contract, not of the program: under it there are only additions. */
const contractVersion = '1.0.0';

const description = [
  'A triggers API: any system POSTs an event, a 2xx means that it is on disk, once, and every consumer that wants it will get it.',
  'Bodies are JSON in UTF-8, times RFC 3339 in UTC with milliseconds, ids opaque. Fields and parameters that are not known are refused; a reply may get further fields in time. `GET` routes answer `HEAD`, too.',
  'A refusal is `application/problem+json`: decide by its `code`. Of several faults the first is named: path, method, key, scope, size and media type, rate, what cannot be read, what is not valid.',
].join('\n');

/** Throws if two routes have the same id. Depends on nothing but its arguments. */
export function openApiDocument(
  routes: readonly Route[],
  examples: readonly Example[],
  limits: Readonly<Record<string, Limit>>,
): OpenApiDocument {
  const components: Components = { schemas: new SchemaComponents(), responses: {} };
  const paths: Record<string, Record<string, unknown>> = {};
  const ids = new Set<unknown>();
  for (const route of routes) {
    const operation = operationOf(route, components, examples);
    if (ids.has(operation['operationId'])) throw new Error(`two routes are called ${String(operation['operationId'])}`);
    ids.add(operation['operationId']);
    (paths[pathTemplate(route)] ??= {})[route.method.toLowerCase()] = operation;
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Sluice',
      version: contractVersion,
      description,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/', description: 'The server that this document came from.' }],
    tags: Object.entries(groups).map(([name, text]) => ({ name, description: text })),
    paths,
    // Those, too, that no schema can say, such as how many keys there may be.
    'x-limits': Object.fromEntries(Object.entries(limits).map(([name, { value }]) => [name, value])),
    components: {
      schemas: components.schemas.schemas,
      responses: components.responses,
      headers: Object.fromEntries(
        Object.entries<HeaderDocs>(replyHeaders).map(([name, docs]) => [
          name,
          { ...docs, required: docs.required ?? true },
        ]),
      ),
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description: 'A key of an organisation: `Authorization: Bearer slk_live_…`.',
        },
        apiKey: {
          type: 'apiKey',
          in: 'header',
          name: 'X-API-Key',
          description: 'The same key: `X-API-Key: slk_live_…`.',
        },
        adminToken: {
          type: 'http',
          scheme: 'bearer',
          description: 'The admin token of the server, which manages organisations.',
        },
      },
    },
  };
}
