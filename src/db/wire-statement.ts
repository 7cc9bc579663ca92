import { Query } from 'pg';

/** One statement of the extended protocol, prepared once a session where it has a name. */
export class WireStatement extends Query {
  constructor({ name, text, values }: { readonly name: string; readonly text: string; readonly values: unknown[] }) {
    // Of an object `pg` makes a slow copy, 5 µs each, so it gets the text alone.
    super(text);
    const fields = this as { name?: string; values?: unknown[]; queryMode?: string };
    fields.name = name;
    fields.values = values;
    fields.queryMode = 'extended';
  }
}
