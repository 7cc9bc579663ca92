/** Which event types a reader wants: those named, and those that begin with a prefix. Null in its place: all. */
export interface TypeFilter {
  readonly exact: readonly string[];
  readonly prefixes: readonly string[];
}

/** Whether the type of the row `e` is wanted by the filter in two parameters: names and prefixes, both null for all. */
export function isWanted(exact: string, prefixes: string): string {
  return `(${exact}::text[] IS NULL OR e.type = ANY (${exact}) OR EXISTS (SELECT FROM unnest(${prefixes}::text[]) AS p WHERE starts_with(e.type, p)))`;
}
