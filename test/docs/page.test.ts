import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errorTable } from '../../src/errors.js';
import { limits } from '../../src/http/limits.js';
import { docsPage } from '../../src/http/openapi/docs-page.js';
import { Client } from '../support/client.js';
import type { Answer } from '../support/client.js';
import { documentPath } from '../support/document.js';
import { builtDocument } from '../support/documented.js';
import { onEachEngine } from '../support/each-engine.js';

const paths = ['/docs', '/docs/errors'];
const page = docsPage(builtDocument(), Object.values(limits));

const idsOf = (html: string): string[] => Array.from(html.matchAll(/\sid="([^"]*)"/g), ([, id]) => id ?? '');
const withoutTags = (html: string): string => html.replaceAll(/<[^>]*>/g, '');

test('the page has every route, every limit and every schema, and a link to each error code', () => {
  const document = builtDocument();
  const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const text = withoutTags(page);
  for (const route of routes) assert.ok(text.includes(route), route);
  for (const { what, value } of Object.values(limits)) {
    assert.ok(text.includes(what.replaceAll('`', '')), what);
    assert.ok(text.includes(value.toLocaleString('en-US')), what);
  }
  const ids = new Set(idsOf(page));
  for (const name of Object.keys(document.components.schemas)) assert.ok(ids.has(`schema-${name}`), name);
  // Neither is of a route: see the test of the document.
  const elsewhere = ['method_not_allowed', 'not_stored'];
  for (const code of Object.keys(errorTable)) {
    assert.ok(elsewhere.includes(code) || page.includes(`href="/docs/errors#${code}"`), code);
  }
});

test('what the document says is text on the page, never markup', () => {
  const document = structuredClone(builtDocument()) as { paths: Record<string, Record<string, { summary: string }>> };
  const hostile = `<script>"x"</script>'&<img>`;
  document.paths['/v1/events']!['post']!.summary = hostile;
  const html = docsPage(document as never, [{ what: hostile, value: 1, unit: hostile, beyond: hostile }]);
  assert.equal(/<script|<img/.test(html), false);
  assert.ok(html.includes('&#60;script&#62;&#34;x&#34;&#60;/script&#62;&#39;&#38;&#60;img&#62;'));
});

await onEachEngine({}, ({ node }) => {
  const anybody = (): Client => new Client(node().address, null);

  test('the document is served to anybody as it stands in docs/', async () => {
    const { status, json, headers } = await anybody().get('/openapi.json');
    assert.equal(status, 200);
    assert.equal(headers.get('content-type'), 'application/json');
    assert.deepEqual(json, JSON.parse(readFileSync(documentPath('openapi.json'), 'utf8')));
  });

  test('whoever has it already is told so, and asks each time', async () => {
    for (const path of ['/openapi.json', ...paths]) {
      const plain = { 'Accept-Encoding': 'identity' };
      const first = await anybody().get(path, plain);
      const tag = first.headers.get('etag') ?? '';
      assert.match(tag, /^"[\w-]{27}"$/);
      assert.equal(first.headers.get('cache-control'), 'public, no-cache');
      const again = await anybody().get(path, { 'If-None-Match': tag });
      assert.deepEqual([again.status, again.text, again.headers.get('etag')], [304, '', tag]);
      assert.equal((await anybody().get(path, { 'If-None-Match': '"other"' })).status, 200);
      const head = await anybody().call('HEAD', path, undefined, plain);
      assert.deepEqual([head.status, head.text, head.headers.get('etag')], [200, '', tag]);
    }
  });

  test('a page loads nothing, runs nothing, and its policy allows its own style only', async () => {
    for (const path of paths) {
      const { headers, text } = await anybody().get(path);
      assert.equal(headers.get('content-type'), 'text/html; charset=utf-8');
      const style = /<style>([^]*?)<\/style>/.exec(text)?.[1] ?? '';
      const hash = createHash('sha256').update(style).digest('base64');
      const policy = headers.get('content-security-policy')?.split('; ') ?? [];
      assert.ok(policy.includes("default-src 'none'") && policy.includes(`style-src 'sha256-${hash}'`), path);
      assert.equal(/<(script|link|img|iframe|object|form)\b|\son\w+=|\sstyle=|url\(|@import/i.test(text), false);
      for (const [, href = ''] of text.matchAll(/href="([^"]*)"/g)) assert.match(href, /^[#/]/);
      assert.equal(headers.get('x-content-type-options'), 'nosniff');
    }
  });

  test('a page can be used without eyes and on a phone: language, landmarks, headings in order, tables with heads, no link that leads nowhere', async () => {
    const pages = new Map<string, Answer>();
    for (const path of paths) pages.set(path, await anybody().get(path));
    for (const [path, { text }] of pages) {
      assert.match(text, /^<!doctype html>\n<html lang="en">/);
      assert.match(text, /<meta name="viewport" content="width=device-width, initial-scale=1">/);
      assert.equal(text.match(/<main /g)?.length, 1);
      assert.equal(text.match(/<h1>/g)?.length, 1);
      const levels = Array.from(text.matchAll(/<h([1-6])/g), ([, level]) => Number(level));
      for (const [i, level] of levels.entries())
        assert.ok(level <= (levels[i - 1] ?? 0) + 1, `heading ${i} of ${path}`);
      const ids = idsOf(text);
      assert.equal(new Set(ids).size, ids.length, 'an id is there twice');
      assert.equal(text.match(/<table/g)?.length, text.match(/<thead><tr><th scope="col">/g)?.length);
      for (const [, label = ''] of text.matchAll(/aria-labelledby="([^"]*)"/g)) assert.ok(ids.includes(label), label);
      for (const [, href = ''] of text.matchAll(/href="([^"]*)"/g)) {
        const [place = '', anchor] = href.split('#');
        const target = place === '' ? text : (pages.get(place)?.text ?? (place === '/openapi.json' ? '' : undefined));
        assert.ok(target !== undefined && (anchor === undefined || idsOf(target).includes(anchor)), `${path}: ${href}`);
      }
    }
  });
});
