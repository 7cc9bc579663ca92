/** The document of the API as a page for people. */
import type { OpenApiDocument } from './document.js';
import type { Limit } from '../limits.js';
import { escaped, inline, paragraphs, table } from './html.js';
import type { JsonSchema } from './json-schema.js';
import { htmlPage } from './page.js';
import { fieldsTable, schemaText } from './schema-text.js';

const problemType = 'application/problem+json';

interface Shown {
  /** The request line. */
  readonly summary: string;
  readonly value: unknown;
  /** Of what is refused. */
  readonly 'x-request-body'?: unknown;
}

interface Content {
  readonly schema: JsonSchema;
  readonly examples?: Readonly<Record<string, Shown>>;
}

interface Reply {
  readonly description: string;
  readonly headers?: Readonly<Record<string, unknown>>;
  readonly content?: Readonly<Record<string, Content>>;
}

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required: boolean;
  readonly description?: string;
  readonly schema: JsonSchema;
}

interface Operation {
  readonly operationId: string;
  readonly tags: readonly string[];
  readonly summary: string;
  readonly description: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly description: string; readonly content: Readonly<Record<string, Content>> };
  readonly responses: Readonly<Record<string, Reply>>;
}

interface Placed {
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
}

/** The whole page. Depends on nothing but its arguments. */
export function docsPage(document: OpenApiDocument, limits: readonly Limit[]): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): Placed => ({
      method: method.toUpperCase(),
      path,
      operation: withReplies(operation as Operation, document),
    })),
  );
  const groups = (document['tags'] as { name: string; description: string }[]).map((group) => ({
    ...group,
    operations: operations.filter(({ operation }) => operation.tags[0] === group.name),
  }));
  const contents = [
    ...groups.map(({ name }) => [name.toLowerCase(), name]),
    ['limits', 'Limits'],
    ['schemas', 'Schemas'],
  ];
  const main = [
    paragraphs(document.info.description),
    paragraphs(
      'Every reply has `X-Request-Id`, and where a bucket is paid from `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`.',
    ),
    paragraphs('Send your key as `Authorization: Bearer slk_live_…` or as `X-API-Key: slk_live_…`.'),
    `<nav aria-label="Contents"><ul>${contents.map(([id, name]) => `<li><a href="#${id}">${name}</a></li>`).join('')}</ul></nav>`,
    ...groups.map(({ name, description, operations: own }) =>
      [
        `<section aria-labelledby="${name.toLowerCase()}">`,
        `<h2 id="${name.toLowerCase()}">${name}</h2>`,
        paragraphs(description),
        overview(name, own),
        ...own.map(operationHtml),
        '</section>',
      ].join('\n'),
    ),
    '<h2 id="limits">Limits</h2>',
    limitsTable(limits),
    '<h2 id="schemas">Schemas</h2>',
    ...Object.entries(document.components.schemas).map(([name, schema]) => schemaHtml(name, schema)),
  ];
  return htmlPage('Sluice API', main.join('\n'));
}

/** The operation with the replies that stand among the components. */
function withReplies(operation: Operation, { components }: OpenApiDocument): Operation {
  const shared = components['responses'] as Operation['responses'];
  const replies = Object.entries(operation.responses).map(([status, reply]) => {
    const ref = (reply as { readonly $ref?: string }).$ref;
    return [status, ref === undefined ? reply : shared[ref.slice(ref.lastIndexOf('/') + 1)]];
  });
  return { ...operation, responses: Object.fromEntries(replies) as Operation['responses'] };
}

function overview(group: string, operations: readonly Placed[]): string {
  const rows = operations.map(({ method, path, operation }) => [
    `<a href="#${operation.operationId}"><code>${method} ${escaped(path)}</code></a>`,
    inline(operation.summary),
  ]);
  return table(`Routes: ${group}`, ['route', 'what'], rows);
}

function operationHtml({ method, path, operation }: Placed): string {
  const { operationId: id, summary, description, parameters = [], requestBody, responses } = operation;
  return [
    `<article aria-labelledby="${id}">`,
    `<h3 id="${id}">${inline(summary)}</h3>`,
    `<p><code><span class="method">${method}</span> ${escaped(path)}</code></p>`,
    paragraphs(description),
    ...(parameters.length === 0 ? [] : [parametersTable(summary, parameters)]),
    ...(requestBody === undefined ? [] : [bodyHtml(summary, requestBody)]),
    repliesTable(summary, responses),
    refusals(responses),
    examplesHtml(operation),
    '</article>',
  ].join('\n');
}

function parametersTable(summary: string, parameters: readonly Parameter[]): string {
  const rows = parameters.map(({ name, in: where, required, description = '', schema }) => [
    `<code>${escaped(name)}</code>`,
    where,
    `${schemaText(schema)}${required ? '' : ', optional'}`,
    inline(description),
  ]);
  return table(`Parameters: ${summary}`, ['parameter', 'in', 'type', 'meaning'], rows);
}

function bodyHtml(summary: string, { description, content }: NonNullable<Operation['requestBody']>): string {
  const types = Object.entries(content).map(([mediaType, { schema }]) => {
    const text = typeof schema['description'] === 'string' ? ` ${inline(schema['description'])}` : '';
    return `<p>Body, <code>${escaped(mediaType)}</code>: ${schemaText(schema)}.${text}</p>\n${fieldsTable(`Body: ${summary}`, schema)}`;
  });
  return `${types.join('\n')}\n${paragraphs(description)}`;
}

function repliesTable(summary: string, responses: Operation['responses']): string {
  const replies = Object.entries(responses).filter(([, { content = {} }]) => !(problemType in content));
  const rows = replies.map(([status, { description, headers, content = {} }]) => {
    const types = Object.entries(content).map(
      ([mediaType, { schema }]) => `<code>${escaped(mediaType)}</code>: ${schemaText(schema)}`,
    );
    const own = Object.keys(headers ?? {}).filter((name) => !/^(X-Request-Id|RateLimit-)/.test(name));
    return [status, inline(description), types.join('<br>'), own.map((name) => `<code>${name}</code>`).join(', ')];
  });
  return table(`Replies: ${summary}`, ['status', 'what', 'body', 'headers'], rows);
}

function refusals(responses: Operation['responses']): string {
  const statuses = Object.entries(responses).flatMap(([status, { content = {} }]) => {
    const [, narrowed] = (content[problemType]?.schema['allOf'] ?? []) as {
      properties: { code: { enum: string[] } };
    }[];
    return narrowed === undefined ? [] : [`${status} ${narrowed.properties.code.enum.map(codeLink).join(', ')}`];
  });
  return `<p>Refused with ${statuses.join('; ')}.</p>`;
}

function codeLink(code: string): string {
  return `<a href="/docs/errors#${code}"><code>${code}</code></a>`;
}

function examplesHtml({ requestBody, responses }: Operation): string {
  const sent = Object.values(requestBody?.content ?? {}).flatMap(({ examples = {} }) => Object.entries(examples));
  const got = Object.entries(responses).flatMap(([status, { content = {} }]) =>
    Object.values(content).flatMap(({ examples = {} }) =>
      Object.entries(examples).map(([name, shown]) => ({ status, name, ...shown })),
    ),
  );
  return got
    .map(({ status, name, summary, value, 'x-request-body': refused }) => {
      const taken = sent.filter(([other]) => other === name).map(([, { value: body }]) => pre(body));
      const body = refused === undefined ? taken : [pre(refused)];
      const request = `<p><code>${escaped(summary)}</code></p>${body.join('')}`;
      return `<details><summary>Example: ${inline(name)}</summary>${request}\n<p>${status}</p>${pre(value)}</details>`;
    })
    .join('\n');
}

function pre(value: unknown): string {
  return `<pre tabindex="0">${escaped(typeof value === 'string' ? value : JSON.stringify(value, null, 2))}</pre>`;
}

function limitsTable(limits: readonly Limit[]): string {
  const rows = limits.map(({ what, value, unit, beyond }) => [
    inline(what),
    escaped(`${value.toLocaleString('en-US')} ${unit}`.trim()),
    inline(beyond),
  ]);
  return table('Limits', ['what', 'at most', 'beyond it'], rows);
}

function schemaHtml(name: string, schema: JsonSchema): string {
  const text = typeof schema['description'] === 'string' ? paragraphs(schema['description']) : '';
  return `<h3 id="schema-${name}">${name}</h3>\n${text}\n${fieldsTable(name, schema)}`;
}
