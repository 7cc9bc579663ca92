import { dataKinds, FormatError, parseLine } from './format.js';
import type { DataKind, DataLine } from './format.js';

/** What stands in an export up to a line: enough to check that the next one may follow, to count, and to go on writing from there. */
export class Outline {
  /** The org whose lines come now; null between orgs. */
  org: DataLine<'org'> | null = null;
  /** The head of that org, or of the org before. */
  head: DataLine<'head'> | null = null;
  /** The number of the last org that began. */
  lastOrg = '0';
  #lastKind: DataKind = 'org';
  #lastText: () => string = () => '';
  #counts = noCounts();
  readonly #totals = { orgs: 0, events: 0, dedup: 0, positions: 0 };

  /** `text` is the whole line, asked for only where it has to be read. Throws a `FormatError` if the line cannot stand here. */
  add(kind: string | undefined, text: () => string): void {
    if (kind === 'org_end') return this.#endOrg(text());
    if (!isDataKind(kind)) throw new FormatError('a line is of no kind that this version knows');
    if (kind === 'org') this.#beginOrg(parseLine('org', text()));
    if (this.org === null || dataKinds.indexOf(kind) < dataKinds.indexOf(this.#lastKind)) {
      throw new FormatError(`a line "${kind}" stands where none may be`);
    }
    if (kind === 'head') this.head = parseLine('head', text());
    this.#counts[kind]++;
    this.#lastKind = kind;
    this.#lastText = text;
  }

  /** The line that ends the org. */
  get orgEndLine(): string {
    const { org: _, head: __, ...counts } = this.#counts;
    return JSON.stringify({ line: 'org_end', org: this.lastOrg, ...counts });
  }

  /** The last line of the export, `checksum` being that of all before it. */
  endLine(checksum: string): string {
    const { orgs, events, dedup } = this.#totals;
    return JSON.stringify({ line: 'end', orgs, events, dedup, sha256: checksum });
  }

  /** Between orgs, or where all is written that must be of one moment: an export can go on from here. */
  get isResumable(): boolean {
    return this.org === null || this.#lastKind === 'event' || this.#lastKind === 'dedup';
  }

  /** Complete orgs, and their events and positions (gaps included); of the org under way the events. */
  get totals(): { readonly orgs: number; readonly events: number; readonly positions: number } {
    return { ...this.#totals, events: this.#totals.events + this.#counts.event };
  }

  /** The last event of the org under way, if its last line is one. */
  get lastEvent(): DataLine<'event'> | null {
    return this.org !== null && this.#lastKind === 'event' ? parseLine('event', this.#lastText()) : null;
  }

  get lastDedup(): DataLine<'dedup'> | null {
    return this.org !== null && this.#lastKind === 'dedup' ? parseLine('dedup', this.#lastText()) : null;
  }

  copy(): Outline {
    const copy = new Outline();
    copy.org = this.org;
    copy.head = this.head;
    copy.lastOrg = this.lastOrg;
    copy.#lastKind = this.#lastKind;
    copy.#lastText = this.#lastText;
    copy.#counts = { ...this.#counts };
    Object.assign(copy.#totals, this.#totals);
    return copy;
  }

  #beginOrg(org: DataLine<'org'>): void {
    if (this.org !== null) throw new FormatError(`org ${this.org.org} has no end`);
    if (Number(org.org) <= Number(this.lastOrg)) throw new FormatError('the orgs are not in ascending order');
    this.org = org;
    this.head = null;
    this.lastOrg = org.org;
    this.#lastKind = 'org';
    this.#counts = noCounts();
  }

  #endOrg(text: string): void {
    if (this.org === null || this.head === null || text !== this.orgEndLine || this.#counts.head !== 1) {
      throw new FormatError(`the end of org ${this.lastOrg} does not fit what stands before it`);
    }
    this.#totals.orgs++;
    this.#totals.events += this.#counts.event;
    this.#totals.dedup += this.#counts.dedup;
    this.#totals.positions += this.head.position - this.head.first_position + 1;
    this.org = null;
    this.#counts = noCounts();
  }
}

function noCounts(): Record<DataKind, number> {
  return { org: 0, key: 0, head: 0, subscription: 0, lease: 0, dead_letter: 0, event: 0, dedup: 0 };
}

function isDataKind(kind: string | undefined): kind is DataKind {
  return kind !== undefined && dataKinds.some((known) => known === kind);
}
