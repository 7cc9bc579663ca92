import type { IncomingMessage } from 'node:http';
import { entityTag, knownTag } from './entity-tag.js';
import type { Reply } from './route.js';

/** A reply that is the same until the program changes: made at the first request, then kept with its entity tag. */
export function keptReply(make: () => Pick<Reply, 'mediaType' | 'headers'> & { readonly body: string }) {
  let kept: Reply | undefined;
  return ({ request }: { readonly request: IncomingMessage }): Reply => {
    kept ??= tagged(make());
    const known = knownTag(request, kept.headers?.['ETag'] ?? '');
    if (known === null) return kept;
    return { status: 304, headers: { ...kept.headers, ETag: known }, body: null };
  };
}

function tagged({ body, headers, ...rest }: ReturnType<Parameters<typeof keptReply>[0]>): Reply {
  const bytes = Buffer.from(body);
  return {
    status: 200,
    ...rest,
    headers: { ETag: entityTag(bytes), 'Cache-Control': 'public, no-cache', Vary: 'Accept-Encoding', ...headers },
    body: bytes,
  };
}
