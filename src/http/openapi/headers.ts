/** The headers of requests and replies that the document tells of. */
export interface HeaderDocs {
  readonly description: string;
  readonly schema: Readonly<Record<string, unknown>>;
  /** Default true: where a reply is documented with it, it is there. */
  readonly required?: boolean;
}

const text = { type: 'string' };
const count = { type: 'integer', minimum: 0 };

export const replyHeaders = {
  'X-Request-Id': {
    description:
      'Names the request in the log of the server. The id that the request gave in the same header, if that has 1 to 128 characters of `A-Z a-z 0-9 . _ -`.',
    schema: { type: 'string', pattern: '^[A-Za-z0-9._-]{1,128}$' },
  },
  'RateLimit-Limit': { description: 'What the bucket of this kind of request holds when it is full.', schema: count },
  'RateLimit-Remaining': { description: 'Whole tokens that are left in it.', schema: count },
  'RateLimit-Reset': { description: 'Seconds until it is full again.', schema: count },
  'Retry-After': { description: 'Seconds after which to try again.', schema: { type: 'integer', minimum: 1 } },
  'WWW-Authenticate': { description: 'The scheme of the key.', schema: { const: 'Bearer' } },
  'Cache-Control': { description: 'Who may keep the reply, and whether it must be asked for again.', schema: text },
  Location: { description: 'The path of what was made.', schema: text },
  ETag: { description: 'Changes whenever the reply does. Send it in `If-None-Match`.', schema: text },
  Link: {
    description:
      'Of a batch of CloudEvents: `<…>; rel="next"`, the next page. Absent on the last page, and in JSON, which has `next_cursor`.',
    schema: text,
    required: false,
  },
  Vary: { description: 'The headers of the request that the reply depends on.', schema: text },
} as const satisfies Record<string, HeaderDocs>;

export type HeaderName = keyof typeof replyHeaders;

export const rateLimitHeaders = ['RateLimit-Limit', 'RateLimit-Remaining', 'RateLimit-Reset'] as const;

export const requestHeaders = {
  'Idempotency-Key': {
    description: 'Means the same as `dedup_id` in the body, which wins where both are sent.',
    schema: { type: 'string', pattern: '^[ -~]{1,255}$' },
  },
  'If-None-Match': {
    description: 'Entity tags that are known already, or `*`: a match is answered with 304.',
    schema: text,
  },
  'Last-Event-ID': {
    description: 'The id of the last event that was seen: the stream goes on behind it. Wins over `after`.',
    schema: text,
  },
  'ce-specversion': {
    description: 'CloudEvents in binary mode: `1.0`. The body is the data.',
    schema: { const: '1.0' },
  },
  'ce-id': { description: 'CloudEvents in binary mode: with `ce-source`, what the event is known by.', schema: text },
  'ce-source': { description: 'CloudEvents in binary mode: where the event comes from.', schema: text },
  'ce-type': { description: 'CloudEvents in binary mode: the type.', schema: text },
  'ce-subject': { description: 'CloudEvents in binary mode: whom the event is about.', schema: text },
  'ce-time': {
    description: 'CloudEvents in binary mode: when it happened.',
    schema: { type: 'string', format: 'date-time' },
  },
} as const satisfies Record<string, HeaderDocs>;

export type RequestHeaderName = keyof typeof requestHeaders;
