import { createHash } from 'node:crypto';
import { escaped } from './html.js';

const style = `
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0550ae, #79b8ff); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 0 1rem 4rem; max-width: 60rem; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 3rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { margin-top: 2.5rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
code { overflow-wrap: anywhere; }
td code, th code { overflow-wrap: normal; }
pre { margin: .5rem 0; padding: .75rem; background: var(--soft); overflow-x: auto; }
nav ul { columns: 16rem; padding-left: 1.2rem; }
.table { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .75rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody th { font-weight: normal; }
th code { white-space: nowrap; }
summary { cursor: pointer; padding: .4rem 0; }
.method { font-weight: bold; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: .5rem; padding: .5rem; background: Canvas; }
`;

/** Nothing but the style above: no script, no picture, nothing from elsewhere, in no frame. */
export const pageHeaders = {
  'Content-Security-Policy': [
    "default-src 'none'",
    `style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

export const pageMediaType = 'text/html; charset=utf-8';

/** A whole page. `main` is HTML. */
export function htmlPage(title: string, main: string): string {
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escaped(title)}</title>`,
    `<style>${style}</style>`,
    '</head>',
    '<body>',
    '<a class="skip" href="#main">To the content</a>',
    '<header><nav aria-label="Pages"><p><a href="/docs">API</a> · <a href="/docs#limits">Limits</a> · <a href="/docs/errors">Errors</a> · <a href="/openapi.json">OpenAPI</a></p></nav></header>',
    `<main id="main">\n<h1>${escaped(title)}</h1>`,
    main,
    '</main>',
    '</body>',
    '</html>',
    '',
  ].join('\n');
}
