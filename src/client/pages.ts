import { withRawPayloads } from './event.js';
import { parsed } from './transport.js';
import type { QueryValue, Transport } from './transport.js';

export interface ListOptions {
  /** Items that one request asks for, 1 to 1,000. */
  readonly pageSize?: number;
  readonly signal?: AbortSignal;
}

interface PageBody<Item> {
  readonly data: readonly Item[];
  readonly next_cursor: string | null;
}

/** Every item of a list, page after page: a page is asked for when the one before it has been used up. */
export async function* allPages<Item extends object>(
  transport: Transport,
  path: string,
  query: Readonly<Record<string, QueryValue>>,
  { pageSize, signal, rawPayload = false }: ListOptions & { readonly rawPayload?: boolean },
): AsyncGenerator<Item, void, undefined> {
  let cursor: string | undefined;
  do {
    const reply = await transport.request({
      method: 'GET',
      path,
      query: { ...query, limit: pageSize, cursor },
      repeat: 'harmless',
      signal,
    });
    const page = parsed(reply) as PageBody<Item>;
    yield* rawPayload ? withRawPayloads(page.data, reply.text) : page.data;
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
}
