import type { Clock } from './clock.js';

/** The rest of a loop between two pieces of work, which a stop cuts short. */
export class Rest {
  #end: () => void = () => {};

  constructor(private readonly clock: Clock) {}

  /** Resolves after at least `ms`, or when it is cut short. One at a time, and none behind a stop, which nothing would end. */
  async take(ms: number): Promise<void> {
    await new Promise<void>((resume) => {
      const cancel = this.clock.after(ms, resume);
      this.#end = () => {
        cancel();
        resume();
      };
    });
  }

  /** Ends the one under way, if there is one. */
  cutShort(): void {
    this.#end();
  }
}
