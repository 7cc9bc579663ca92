/** One exchange that the document shows. The tests send each to a real server. */
export interface Example {
  /** The id of the operation. */
  readonly operation: string;
  /** Short, unique within the operation. */
  readonly name: string;
  readonly request: {
    readonly params?: Readonly<Record<string, string>>;
    readonly query?: Readonly<Record<string, string>>;
    readonly headers?: Readonly<Record<string, string>>;
    /** JSON, or the text of another media type. */
    readonly body?: unknown;
    /** Default `application/json`. */
    readonly mediaType?: string;
  };
  readonly reply: {
    readonly status: number;
    /** JSON, or text. Absent: no body. */
    readonly body?: unknown;
    /** Default `application/json`, of a refusal `application/problem+json`. */
    readonly mediaType?: string;
  };
}

export function replyTypeOf({ reply }: Example): string {
  return reply.mediaType ?? (reply.status < 400 ? 'application/json' : 'application/problem+json');
}
