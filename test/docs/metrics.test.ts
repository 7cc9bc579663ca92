import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Client, createOrg } from '../support/client.js';
import { documentPath, tableRows } from '../support/document.js';
import { onEachEngine } from '../support/each-engine.js';
import { adminToken } from '../support/node.js';

const [rows = []] = tableRows(readFileSync(documentPath('metrics.md'), 'utf8'));
const documented = rows.map(([name = '', type = '', labels = '']) => ({
  name: name.replaceAll('`', ''),
  type,
  labels: Array.from(labels.matchAll(/`(\w+)`/g), ([, label]) => label ?? ''),
}));

/** Labels that a type of metric brings itself. */
const ownLabels = ['le', 'quantile'];

await onEachEngine({}, ({ engine, node }) => {
  test('the document lists each metric of the program with its type, and no other', async () => {
    const { text } = await new Client(node().address, adminToken).get('/metrics');
    const served = Array.from(text.matchAll(/^# TYPE (sluice_\S+) (\S+)$/gm), ([, name, type]) => `${name} ${type}`);
    const expected = documented.filter(({ name }) => engine === 'embedded' || !name.startsWith('sluice_embedded_'));
    assert.deepEqual(served.toSorted(), expected.map(({ name, type }) => `${name} ${type}`).toSorted());
    const others = Array.from(text.matchAll(/^# TYPE (?!sluice_)([a-z]+_)/gm), ([, prefix]) => prefix);
    assert.deepEqual(new Set(others), new Set(['nodejs_', 'process_']));
  });

  test('each metric has the labels of the document, none of which tells of an org', async () => {
    const { address } = node();
    const admin = new Client(address, adminToken);
    const org = await createOrg(address);
    await admin.call('PATCH', `/v1/orgs/${org.id}`, { limits: { rate_per_minute: 2, burst: 2 } });
    const event = { type: 'a', payload: 1, dedup_id: 'd' };
    await org.client.post('/v1/events', event);
    await org.client.post('/v1/events', event);
    assert.equal((await org.client.post('/v1/events', event)).status, 429);
    assert.equal((await org.client.post('/v1/inbox/receive')).json.data.length, 1);

    const { text } = await admin.get('/metrics');
    const seen = new Map<string, string[]>();
    for (const [, sample = '', labels = ''] of text.matchAll(/^(sluice_\w+)\{(.*)\} \S+$/gm)) {
      const name = documented.find((row) => sample.replace(/_(bucket|sum|count)$/, '') === row.name)?.name ?? sample;
      const names = Array.from(labels.matchAll(/(\w+)="/g), ([, label]) => label ?? '');
      seen.set(name, names.filter((label) => !ownLabels.includes(label)).toSorted());
    }
    for (const { name, labels } of documented) {
      const actual = seen.get(name);
      if (actual !== undefined) assert.deepEqual(actual, labels.toSorted(), name);
    }
    const labelled = [
      'http_request_duration_seconds',
      'http_problems_total',
      'rate_limited_total',
      'inbox_events_handed_out_total',
    ];
    for (const name of labelled)
      assert.ok((seen.get(`sluice_${name}`)?.length ?? 0) > 0, `${name} was not seen with labels`);
    assert.match(text, /^sluice_rate_limited_total\{bucket="write",mode="enforce"\} 1$/m);
    assert.match(text, /^sluice_events_stored_total 1$/m);
    assert.match(text, /^sluice_events_duplicate_total 1$/m);
    assert.equal(text.includes(org.id) || text.includes('evt_'), false);
  });
});
