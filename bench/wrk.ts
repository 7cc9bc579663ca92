/** Runs `wrk` (https://github.com/wg/wrk) with a plan: a closed loop on one thread. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LoadResult, PlannedLoad } from './load.js';
import { owned, ownedFolder } from './owned.js';
import type { Plan, Request } from './plan.js';
import { leasePlace, rawRequest, uniqueDigits, uniquePlace } from './plan.js';

export async function runWrk(load: PlannedLoad, generator: string): Promise<LoadResult> {
  const { address, plan, connections, seconds } = load;
  const folder = ownedFolder('sluice-bench-');
  try {
    const script = join(folder.path, 'load.lua');
    writeFileSync(script, luaScript(plan, new URL(address).host));
    const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', script, address];
    const running = promisify(execFile)('wrk', args);
    owned(running.child);
    const { stdout } = await running;
    const summary = /^SUMMARY (.*)$/m.exec(stdout)?.[1];
    if (summary === undefined) throw new Error(`no summary from wrk: ${stdout}`);
    const told = JSON.parse(summary) as Record<
      'requests' | 'events' | 'microseconds' | 'failed' | 'p50' | 'p95' | 'p99' | 'p999',
      number
    >;
    const took = told.microseconds / 1e6;
    const success = told.requests === 0 ? 0 : Math.max(0, 1 - told.failed / told.requests);
    const perRequest = plan.cycle.reduce((sum, { events }) => sum + events, 0) / plan.cycle.length;
    const events = plan.consume === undefined ? told.requests * success * perRequest : told.events;
    return {
      generator,
      sentPerSecond: told.requests / took,
      requestsPerSecond: (told.requests * success) / took,
      eventsPerSecond: events / took,
      seconds: took,
      p50: told.p50 / 1000,
      p95: told.p95 / 1000,
      p99: told.p99 / 1000,
      p999: told.p999 / 1000,
      success,
    };
  } finally {
    folder.remove();
  }
}

function luaScript(plan: Plan, host: string): string {
  return `${requestScript(plan, host)}
function done(summary, latency, requests)
  local e = summary.errors
  local events = 0
  for _, thread in ipairs(threads or {}) do events = events + (thread:get("acknowledged") or 0) end
  io.write(string.format('SUMMARY {"requests":%d,"events":%d,"microseconds":%d,"failed":%d,"p50":%d,"p95":%d,"p99":%d,"p999":%d}\\n',
    summary.requests, events, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), latency:percentile(99.9)))
end
`;
}

function requestScript(plan: Plan, host: string): string {
  const [first] = plan.cycle;
  if (plan.consume !== undefined) return consumeScript(plan, plan.consume, host);
  const isFixed = plan.cycle.length === 1 && plan.keys.length === 1 && first?.body?.includes(uniquePlace) !== true;
  // With a request that never changes, wrk does not call Lua for each: half of its time.
  if (isFixed && first !== undefined) return fixedScript(first, plan.keys[0] ?? '');
  return `${builders(plan, plan.cycle, host)}
local turn = 0
function request()
  local build = requests[turn % #requests + 1]
  turn = turn + 1
  return build()
end
`;
}

function fixedScript({ method, path, contentType, body }: Request, key: string): string {
  return `
wrk.method = "${method}"
wrk.path = ${luaText(path)}
wrk.headers["Authorization"] = "Bearer ${key}"
${contentType === undefined ? '' : `wrk.headers["Content-Type"] = "${contentType}"`}
${body === undefined ? '' : `wrk.body = ${luaText(body)}`}
`;
}

/** `requests`: a function each, which returns the text of the next such request. */
function builders(plan: Plan, requests: readonly Request[], host: string): string {
  const values = { key: 'next_key()', unique: 'next_unique()', lease: 'lease' };
  const functions = requests.map((request) => {
    const { pieces, slots } = rawRequest(request, host);
    const parts = pieces.flatMap((piece, i) => [luaText(piece), ...(slots[i] === undefined ? [] : [values[slots[i]]])]);
    return `function(lease) return ${parts.join(' .. ')} end`;
  });
  return `
local keys = { ${plan.keys.map((key) => luaText(key)).join(',\n')} }
local key_turn, unique = 0, 0
local function next_key()
  key_turn = key_turn + 1
  return keys[(key_turn - 1) % #keys + 1]
end
local function next_unique()
  unique = unique + 1
  return string.format("%0${uniqueDigits}d", unique)
end
local requests = { ${functions.join(',\n')} }
`;
}

function consumeScript(plan: Plan, consume: NonNullable<Plan['consume']>, host: string): string {
  if (consume.ack.body?.includes(leasePlace) !== true) throw new TypeError('an acknowledgement names its lease');
  return `${builders(plan, [consume.receive, consume.ack, consume.again], host)}
acknowledged = 0
threads = {}
function setup(thread) table.insert(threads, thread) end
local leases, is_empty, again_at = {}, false, 0
function request()
  local lease = table.remove(leases)
  if lease then return requests[2](lease) end
  if is_empty and os.time() > again_at then
    is_empty, again_at = false, os.time()
    return requests[3]()
  end
  return requests[1]()
end
function response(status, headers, body)
  local lease = string.match(body, '^{"lease_id":"(lse_%w+)"')
  if lease then table.insert(leases, lease)
  elseif string.find(body, '^{"lease_id":null') then is_empty = true
  else acknowledged = acknowledged + tonumber(string.match(body, '^{"acknowledged":(%d+)') or 0) end
end
`;
}

/** A literal in Lua: bytes as they are, but for what would end or change it. */
function luaText(text: string): string {
  const escaped = text.replaceAll(/[\\"\n\r]/g, (found) => ({ '\\': '\\\\', '"': '\\"', '\n': '\\n' })[found] ?? '\\r');
  return `"${escaped}"`;
}
