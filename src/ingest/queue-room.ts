/** How many bytes may wait, over all queues that share it. */
export class QueueRoom {
  #bytes = 0;

  constructor(readonly bytesMax: number) {}

  get bytes(): number {
    return this.#bytes;
  }

  /** Negative when something has left. */
  add(bytes: number): void {
    this.#bytes += bytes;
  }
}
