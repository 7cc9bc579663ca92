/** The workers of a node, as the process that starts them sees them. */
import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import type { Clock } from '../clock.js';
import type { Logger } from '../log.js';
import type { ToPrimary, ToWorker } from '../siblings.js';
import { SpentOutbox } from '../siblings.js';
import { NodeMetrics } from './node-metrics.js';
import { Restarts } from './restarts.js';

export interface WorkerPoolOptions {
  readonly count: number;
  /** Milliseconds between two signs of life of a worker. */
  readonly beatMs: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** They end again and again; told how the last one did. The pool starts none any more. */
  readonly onGivenUp: (end: string) => void;
}

/** The first worker ended before it was ready. It has said why, unless a signal ended it. */
export class FirstWorkerEnded extends Error {
  constructor(
    readonly code: number | null,
    readonly signal: string | null,
  ) {
    super(`the first worker ended with ${signal ?? code}`);
  }
}

interface Member {
  readonly worker: Worker;
  readonly spent: SpentOutbox;
  readonly cancelReadyLimit: () => void;
  /** Null until it serves. */
  readyAtMs: number | null;
  /** Looks since anything was heard of it. */
  silentLooks: number;
}

/** The longest start: beyond it a worker is taken for one that ended. */
const readyMsMax = 120_000;
/**
 * After so many looks, one a beat, without a word from it a worker that serves is taken for one that hangs: half a minute. Looks are counted, not time: while
 * this process itself is stopped, starved or asleep with its machine it does not look, and the one look that comes late counts for no more than another.
 */
const silentLooksMax = 15;

export class WorkerPool {
  readonly #options: WorkerPoolOptions;
  readonly #restarts: Restarts;
  readonly #metrics: NodeMetrics;
  readonly #members = new Map<number, Member>();
  readonly #restartTimers = new Set<() => void>();
  #address: string | null = null;
  #isStopping = false;
  #isGivenUp = false;
  /** What ended otherwise than with 0 while stopping. */
  readonly #badEnds: string[] = [];
  #onReady: (address: string) => void = () => {};
  #onFirstEnded: (error: FirstWorkerEnded) => void = () => {};
  #onNoneLeft: () => void = () => {};

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.#restarts = new Restarts(options.count);
    this.#metrics = new NodeMetrics(options.clock);
  }

  /**
   * Resolves with the address when all serve. The first is waited for before the others are started, so that what keeps each of them from starting is
   * said once; rejects with a `FirstWorkerEnded` if it ends. Never settles once `stop` is called.
   */
  start(): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#onFirstEnded = reject;
      this.#onReady = (address) => {
        if (this.#address === null) {
          this.#address = address;
          for (let i = 1; i < this.#options.count; i++) this.#fork();
        }
        if (this.#serving().length === this.#options.count) resolve(address);
      };
      this.#fork();
      this.#look();
    });
  }

  /** Resolves when all have drained and ended. Rejects if one ended with another code than 0, or it was given up. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const cancel of this.#restartTimers) cancel();
    if (this.#members.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onNoneLeft = resolve;
        for (const { worker } of this.#members.values()) void send(worker, { kind: 'stop' });
      });
    }
    if (this.#isGivenUp) throw new Error('workers ended again and again');
    if (this.#badEnds.length > 0) throw new Error(`workers ended by ${this.#badEnds.join(', ')}`);
  }

  kill(): void {
    for (const { worker } of this.#members.values()) worker.process.kill('SIGKILL');
  }

  #fork(): void {
    const { clock, log } = this.#options;
    // The port that the first one was given is no longer held when there is no worker.
    if (this.#members.size === 0 && this.#address !== null) pinPort(this.#address);
    const worker = cluster.fork();
    closeWhatItWasHanded(worker);
    const member: Member = {
      worker,
      spent: new SpentOutbox(clock, (spent) => send(worker, { kind: 'spent', spent })),
      cancelReadyLimit: clock.after(readyMsMax, () => worker.process.kill('SIGKILL')),
      readyAtMs: null,
      silentLooks: 0,
    };
    this.#members.set(worker.id, member);
    worker.on('message', (message: ToPrimary) => this.#heard(member, message));
    worker.on('exit', (code: number | null, signal: string | null) => this.#ended(member, code, signal));
    worker.on('error', (error) => {
      log.error({ err: error, worker: worker.process.pid }, 'a worker cannot be started, told or ended');
      // It was never there, so it will not exit.
      if (worker.process.pid === undefined) this.#ended(member, 1, null);
    });
  }

  #heard(member: Member, message: ToPrimary): void {
    const { worker } = member;
    member.silentLooks = 0;
    if (message.kind === 'ready') {
      member.cancelReadyLimit();
      member.readyAtMs = this.#options.clock.monotonic();
      this.#options.log.info({ worker: worker.process.pid }, 'a worker serves');
      if (!this.#isStopping) this.#onReady(message.address);
    } else if (message.kind === 'spent') {
      for (const other of this.#members.values()) {
        if (other !== member) for (const spent of message.spent) other.spent.add(spent);
      }
    } else if (message.kind === 'metrics') {
      this.#metrics.answered(worker.id, message.scrape, message.metrics);
    } else if (message.kind === 'scrape') {
      void this.#scrape(worker);
    }
  }

  /**
   * Kills, once, each worker that is stopped or spins: it ends no connection that it has, so its clients would hang. Goes on while stopping, whose limit may be
   * minutes.
   */
  #look(): void {
    const { beatMs, clock, log } = this.#options;
    for (const member of this.#serving()) {
      if (++member.silentLooks !== silentLooksMax) continue;
      const { process: child } = member.worker;
      log.error({ worker: child.pid, silentMs: silentLooksMax * beatMs }, 'a worker hangs: it is killed');
      child.kill('SIGKILL');
    }
    clock.after(beatMs, () => this.#look());
  }

  #ended(member: Member, code: number | null, signal: string | null): void {
    const { clock, log, onGivenUp } = this.#options;
    const { worker, readyAtMs } = member;
    if (!this.#members.delete(worker.id)) return;
    member.cancelReadyLimit();
    this.#metrics.ended(worker.id);
    const end = signal ?? `exit code ${code}`;
    if (this.#isStopping) {
      if (code !== 0) this.#badEnds.push(end);
      if (this.#members.size === 0) this.#onNoneLeft();
      return;
    }
    if (this.#isGivenUp) return;
    if (this.#address === null) {
      this.#onFirstEnded(new FirstWorkerEnded(code, signal));
      return;
    }
    const nowMs = clock.monotonic();
    const delayMs = this.#restarts.ended(readyAtMs === null ? 0 : nowMs - readyAtMs, this.#serving().length > 0);
    log.warn({ worker: worker.process.pid, code, signal, delayMs }, 'a worker has ended');
    if (delayMs === null) {
      this.#isGivenUp = true;
      onGivenUp(end);
      return;
    }
    const cancel = clock.after(delayMs, () => {
      this.#restartTimers.delete(cancel);
      this.#fork();
    });
    this.#restartTimers.add(cancel);
  }

  #serving(): Member[] {
    return [...this.#members.values()].filter(({ readyAtMs }) => readyAtMs !== null);
  }

  async #scrape(asking: Worker): Promise<void> {
    let text: string | null = null;
    try {
      const ids = this.#serving().map(({ worker }) => worker.id);
      text = await this.#metrics.collect(ids, (id, scrape) => {
        const worker = this.#members.get(id)?.worker;
        if (worker !== undefined) void send(worker, { kind: 'metrics', scrape });
      });
    } catch (error) {
      this.#options.log.warn({ err: error }, 'the metrics of the workers could not be added up');
    }
    await send(asking, { kind: 'scraped', text });
  }
}

/** Resolves when it is written, or cannot be. */
function send(worker: Worker, message: ToWorker): Promise<void> {
  return new Promise((resolve) => {
    if (worker.isConnected()) worker.process.send(message, undefined, undefined, () => resolve());
    else resolve();
  });
}

function pinPort(address: string): void {
  const { port } = new URL(address);
  // A URL does not name port 80, which is no free one that was found. Of two flags the last counts.
  if (port !== '') cluster.setupPrimary({ args: [...process.argv.slice(2), '--port', port] });
}

/**
 * A worker that ends before it has taken the connection it was handed leaves it open in this process, and its client without an answer or an end
 * (Node 20; seen with a worker that was stopped, then killed). One at a time is on its way.
 */
function closeWhatItWasHanded(worker: Worker): void {
  const child = worker.process;
  const sendAsIs = child.send.bind(child) as (...args: unknown[]) => boolean;
  let handed: { close?: () => void } | undefined;
  child.send = (...args: unknown[]): boolean => {
    if (args[1] !== undefined && args[1] !== null) handed = args[1];
    return sendAsIs(...args);
  };
  worker.once('exit', () => handed?.close?.());
}
