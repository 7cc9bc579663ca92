export interface ChannelHandler {
  readonly onNotify: (payload: string) => void;
  readonly onGap: (() => void) | undefined;
}

/** Who hears which notification channel. LISTEN is sent with the first handler of a channel, UNLISTEN after its last. */
export class ChannelHandlers {
  readonly #handlers = new Map<string, Set<ChannelHandler>>();

  get names(): string[] {
    return [...this.#handlers.keys()];
  }

  /** Resolves, once the server listens, with the way to stop. `send` runs a statement on the listening session. */
  async add(
    channel: string,
    handler: ChannelHandler,
    send: (text: string) => Promise<void>,
  ): Promise<() => Promise<void>> {
    const quoted = quote(channel);
    const handlers = this.#handlers.get(channel) ?? new Set();
    this.#handlers.set(channel, handlers.add(handler));
    const remove = (): boolean => {
      const isLast = handlers.delete(handler) && handlers.size === 0;
      if (isLast) this.#handlers.delete(channel);
      return isLast;
    };
    try {
      await send(`LISTEN ${quoted}`);
    } catch (error) {
      remove();
      throw error;
    }
    return async () => {
      if (remove()) await send(`UNLISTEN ${quoted}`);
    };
  }

  notify(channel: string, payload: string): void {
    for (const { onNotify } of this.#handlers.get(channel) ?? []) onNotify(payload);
  }

  /** Notifications may have been missed, on every channel. */
  gap(): void {
    for (const handlers of this.#handlers.values()) for (const { onGap } of handlers) onGap?.();
  }
}

/** The LISTEN statements for all `channels`, as one simple query. */
export function listenText(channels: readonly string[]): string {
  return channels.map((channel) => `LISTEN ${quote(channel)}`).join('; ');
}

function quote(channel: string): string {
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(channel)) throw new TypeError(`not a channel name: ${channel}`);
  return `"${channel}"`;
}
