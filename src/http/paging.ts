import { Type } from '@sinclair/typebox';
import type { CursorSigner } from './cursor.js';
import type { Reply } from './route.js';
import { json } from './route.js';

/** Items on a page. */
export const pageItemsMax = 1_000;

/** The query of a list without filters. */
export const listQuery = Type.Object(
  {
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: pageItemsMax })),
    cursor: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
);

export interface List<Item> {
  /** Up to `limit` items after the one at `after`; '' is the beginning. */
  readonly read: (after: string, limit: number) => Promise<readonly Item[]>;
  readonly placeOf: (item: Item) => string;
  readonly render: (item: Item) => unknown;
}

/** One page of a list. It reads one item more than it shows, to know whether there is a next page. */
export async function page<Item>(
  query: Readonly<Record<string, unknown>>,
  cursors: CursorSigner,
  binding: readonly string[],
  list: List<Item>,
): Promise<Reply> {
  const limit = (query['limit'] as number | undefined) ?? 50;
  const cursor = query['cursor'] as string | undefined;
  const after = cursor === undefined ? '' : String(cursors.verify(binding, cursor)[0]);
  const items = await list.read(after, limit + 1);
  const shown = items.slice(0, limit);
  const last = shown.at(-1);
  const next = items.length > limit && last !== undefined ? cursors.sign(binding, [list.placeOf(last)]) : null;
  return json(200, { data: shown.map(list.render), next_cursor: next });
}
