import { errorTable } from '../../errors.js';
import { keptReply } from '../documentation.js';
import { limits } from '../limits.js';
import { docsPage } from '../openapi/docs-page.js';
import type { OpenApiDocument } from '../openapi/document.js';
import { openApiDocument } from '../openapi/document.js';
import { examples } from '../openapi/examples.js';
import { escaped } from '../openapi/html.js';
import { operationsDocs } from '../openapi/operations-docs.js';
import { htmlPage, pageHeaders, pageMediaType } from '../openapi/page.js';
import { errorDocsPath } from '../problem.js';
import type { KeyContext, Route } from '../route.js';

/** What the server tells of itself. `routes` is asked for at the first request: by then the table is complete, with these routes in it. */
export function documentationRoutes(routes: () => readonly (Route | Route<KeyContext>)[]): Route[] {
  const row = { method: 'GET', access: 'public', bucket: null } as const;
  const page = { mediaType: pageMediaType, headers: pageHeaders };
  return [
    {
      ...row,
      path: '/openapi.json',
      docs: operationsDocs.document,
      handler: keptReply(() => ({ body: JSON.stringify(documentOf(routes())), mediaType: 'application/json' })),
    },
    {
      ...row,
      path: '/docs',
      docs: operationsDocs.page,
      handler: keptReply(() => ({ ...page, body: docsPage(documentOf(routes()), Object.values(limits)) })),
    },
    {
      ...row,
      path: errorDocsPath,
      docs: operationsDocs.errors,
      handler: keptReply(() => ({ ...page, body: errorsPage() })),
    },
  ];
}

/** The document of a route table. */
export function documentOf(routes: readonly (Route | Route<KeyContext>)[]): OpenApiDocument {
  return openApiDocument(routes as readonly Route[], examples, limits);
}

/** What the `type` of a problem links to. */
function errorsPage(): string {
  const sections = Object.entries(errorTable).map(
    ([code, { status, title }]) => `<h2 id="${code}"><code>${code}</code></h2><p>${status} · ${escaped(title)}</p>`,
  );
  const intro = '<p>Each refusal names its code; its <code>detail</code> says what to do next.</p>';
  return htmlPage('Sluice: errors', [intro, ...sections].join('\n'));
}
