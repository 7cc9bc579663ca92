import type { FastifyRequest } from 'fastify';
import { entityTag, matchesTag } from './entity-tag.js';
import type { Reply } from './route.js';

/** A reply that is the same until the program changes: made at the first request, then kept with its entity tag. */
export function keptReply(make: () => Pick<Reply, 'mediaType' | 'headers'> & { readonly body: string }) {
  let kept: Reply | undefined;
  return ({ request }: { readonly request: FastifyRequest }): Reply => {
    kept ??= tagged(make());
    if (!matchesTag(request, kept.headers?.['ETag'] ?? '')) return kept;
    return { status: 304, headers: kept.headers ?? {}, body: null };
  };
}

function tagged({ body, headers, ...rest }: ReturnType<Parameters<typeof keptReply>[0]>): Reply {
  const bytes = Buffer.from(body);
  return {
    status: 200,
    ...rest,
    headers: { ETag: entityTag(bytes), 'Cache-Control': 'public, no-cache', ...headers },
    body: bytes,
  };
}
