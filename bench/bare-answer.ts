interface Sent {
  readonly type: string;
}

/** Parses what Sluice would parse, and answers as it does, with nothing stored: an event, or as many results as there are events. */
export function bareAnswer(contentType: string | undefined, text: string): string {
  if (contentType !== 'application/x-ndjson') return bareReply(JSON.parse(text) as Sent | Sent[]);
  const lines = text.split('\n').filter((line) => line !== '');
  return bareReply(lines.map((line) => JSON.parse(line) as Sent));
}

export function bareReply(sent: Sent | Sent[]): string {
  if (!Array.isArray(sent)) return JSON.stringify({ id: 'evt_0', type: sent.type, duplicate: false });
  const results = sent.map(() => ({ status: 201, id: 'evt_0', duplicate: false }));
  return JSON.stringify({ accepted: sent.length, duplicates: 0, rejected: 0, results });
}
