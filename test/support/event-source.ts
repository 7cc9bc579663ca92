import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { get } from 'node:http';
import type { Client } from './client.js';

export interface StreamedEvent {
  readonly id: string;
  /** As a client puts it together: the data lines with a line break between them. */
  readonly data: string;
}

/** A client of a stream of events, on a connection of its own: reads it as the HTML standard says, but does not connect again. */
export class EventSource {
  readonly #response: IncomingMessage;
  readonly #chunks: AsyncIterator<string>;
  #unread = '';
  /** All that came. */
  text = '';
  comments = 0;

  private constructor(response: IncomingMessage) {
    assert.equal(response.statusCode, 200);
    assert.equal(response.headers['content-type'], 'text/event-stream');
    this.#response = response;
    this.#chunks = response.setEncoding('utf8')[Symbol.asyncIterator]() as AsyncIterator<string>;
  }

  static async open(
    { address, credential }: Client,
    search = '',
    headers: Record<string, string> = {},
  ): Promise<EventSource> {
    const sent = { Authorization: `Bearer ${credential}`, Accept: 'text/event-stream', ...headers };
    const request = get(`${address}/v1/events/stream${search}`, { headers: sent, agent: false });
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    return new EventSource(response);
  }

  get headers(): IncomingHttpHeaders {
    return this.#response.headers;
  }

  /** The next event; null at the end of the stream. Comments before it are counted. */
  async next(): Promise<StreamedEvent | null> {
    for (;;) {
      const block = await this.#block();
      if (block === null) return null;
      const lines = block.split('\n');
      if (lines.every((line) => line.startsWith(':'))) {
        this.comments++;
        continue;
      }
      const valuesOf = (name: string): string[] =>
        lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2));
      const [ids, data] = [valuesOf('id'), valuesOf('data')];
      assert.equal(ids.length, 1, block);
      assert.equal(ids.length + data.length, lines.length, `other lines in ${block}`);
      return { id: ids[0] ?? '', data: data.join('\n') };
    }
  }

  async take(count: number): Promise<StreamedEvent[]> {
    const events: StreamedEvent[] = [];
    while (events.length < count) {
      const event = await this.next();
      assert.ok(event, `the stream ended after ${events.length} of ${count} events`);
      events.push(event);
    }
    return events;
  }

  /** Resolves when a comment has come. */
  async comment(): Promise<void> {
    const block = await this.#block();
    assert.match(block ?? 'the end', /^:/);
    this.comments++;
  }

  close(): void {
    this.#response.destroy();
  }

  async #block(): Promise<string | null> {
    for (;;) {
      const end = this.#unread.indexOf('\n\n');
      if (end >= 0) {
        const block = this.#unread.slice(0, end);
        this.#unread = this.#unread.slice(end + 2);
        return block;
      }
      const { done, value } = await this.#chunks.next();
      if (done === true) return null;
      assert.ok(!value.includes('\r'), 'a carriage return ends a line, too');
      this.#unread += value;
      this.text += value;
    }
  }
}
