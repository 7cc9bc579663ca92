import type { Maintainable } from '../../src/db/embedded-maintenance.js';

/** An engine whose tasks are not timed, so that no rest follows them, which a test's clock would have to end. */
export function withoutRests(engine: Maintainable): Maintainable {
  return {
    maintain: <Row>(text: string) => engine.maintain<Row>(text),
    get fsyncs() {
      return engine.fsyncs;
    },
  };
}
