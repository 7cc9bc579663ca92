/**
 * Gathers items while a request is under way and sends them with the next one, as the server does with its commits: no timer, a lone item
 * waits for nothing, and under load the requests grow.
 */
export class Coalescer<Item> {
  #waiting: { readonly item: Item; readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = [];
  #isSending = false;

  /** `send` gets 1 to `itemsMax` items; what it throws is thrown to those who added them. */
  constructor(
    private readonly itemsMax: number,
    private readonly send: (items: readonly Item[]) => Promise<void>,
  ) {}

  /** Resolves once `item` was sent. How many may wait is the caller's bound. */
  add(item: Item): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (!this.#isSending) void this.#sendAll();
    });
  }

  async #sendAll(): Promise<void> {
    this.#isSending = true;
    // What is added in the same turn goes along.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, this.itemsMax);
      try {
        await this.send(batch.map(({ item }) => item));
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#isSending = false;
  }
}
