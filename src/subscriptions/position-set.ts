/**
 * A set of positions of one org's log, as sorted, disjoint, half-open ranges: what PostgreSQL calls an `int8multirange`, in its text form on
 * the wire. Immutable. Positions are below 2^48, so numbers hold them exactly.
 */
export class PositionSet {
  static readonly empty = new PositionSet([]);

  private constructor(readonly ranges: readonly (readonly [from: number, until: number])[]) {}

  /** From positions in ascending order; neighbours merge into ranges. */
  static of(positions: Iterable<number>): PositionSet {
    const ranges: [number, number][] = [];
    for (const position of positions) {
      const last = ranges.at(-1);
      if (last !== undefined && last[1] === position) last[1] = position + 1;
      else ranges.push([position, position + 1]);
    }
    return new PositionSet(ranges);
  }

  /** The positions from `from` on, below `until`. */
  static range(from: number, until: number): PositionSet {
    return until > from ? new PositionSet([[from, until]]) : PositionSet.empty;
  }

  static union(sets: readonly PositionSet[]): PositionSet {
    const sorted = sets.flatMap((set) => set.ranges).toSorted(([a], [b]) => a - b);
    const merged: [number, number][] = [];
    for (const [from, until] of sorted) {
      const last = merged.at(-1);
      if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], until);
      else merged.push([from, until]);
    }
    return new PositionSet(merged);
  }

  /** Parses PostgreSQL's canonical text, e.g. `{[1,5),[7,8)}`. */
  static parse(text: string): PositionSet {
    const ranges = Array.from(
      text.matchAll(/\[(\d+),(\d+)\)/g),
      (match) => [Number(match[1]), Number(match[2])] as const,
    );
    return new PositionSet(ranges);
  }

  toString(): string {
    return `{${this.ranges.map(([from, until]) => `[${from},${until})`).join(',')}}`;
  }

  get size(): number {
    return this.ranges.reduce((sum, [from, until]) => sum + until - from, 0);
  }

  get isEmpty(): boolean {
    return this.ranges.length === 0;
  }

  has(position: number): boolean {
    let [low, high] = [0, this.ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const range = this.ranges[middle];
      if (range === undefined) return false;
      if (position < range[0]) high = middle;
      else if (position >= range[1]) low = middle + 1;
      else return true;
    }
    return false;
  }

  /** The greatest position; null if there is none. */
  get last(): number | null {
    const range = this.ranges.at(-1);
    return range === undefined ? null : range[1] - 1;
  }

  /** The positions greater than `position`. */
  after(position: number): PositionSet {
    const ranges = this.ranges.filter(([, until]) => until > position + 1);
    return new PositionSet(ranges.map(([from, until]) => [Math.max(from, position + 1), until] as const));
  }

  /** The positions up to and including `position`. */
  upTo(position: number): PositionSet {
    const ranges = this.ranges.filter(([from]) => from <= position);
    return new PositionSet(ranges.map(([from, until]) => [from, Math.min(until, position + 1)] as const));
  }

  minus(other: PositionSet): PositionSet {
    const rest: [number, number][] = [];
    let skip = 0;
    for (const [from, until] of this.ranges) {
      let open = from;
      while (skip < other.ranges.length && (other.ranges[skip]?.[1] ?? 0) <= from) skip++;
      for (let i = skip; i < other.ranges.length; i++) {
        const [cutFrom, cutUntil] = other.ranges[i] ?? [until, until];
        if (cutFrom >= until) break;
        if (cutFrom > open) rest.push([open, cutFrom]);
        open = Math.max(open, cutUntil);
      }
      if (open < until) rest.push([open, until]);
    }
    return new PositionSet(rest);
  }

  /** The first `count` ranges, and the rest. */
  firstRanges(count: number): readonly [first: PositionSet, rest: PositionSet] {
    if (this.ranges.length <= count) return [this, PositionSet.empty];
    return [new PositionSet(this.ranges.slice(0, count)), new PositionSet(this.ranges.slice(count))];
  }

  /** The first `count` positions, and the rest. */
  splitAt(count: number): readonly [first: PositionSet, rest: PositionSet] {
    const first: [number, number][] = [];
    const rest: [number, number][] = [];
    let room = count;
    for (const [from, until] of this.ranges) {
      const cut = Math.min(until, from + room);
      if (cut > from) first.push([from, cut]);
      if (until > cut) rest.push([cut, until]);
      room -= cut - from;
    }
    return [new PositionSet(first), new PositionSet(rest)];
  }
}
