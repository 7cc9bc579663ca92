import { copyFileSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DiskFile } from './disk-file.js';
import type { Random } from './random.js';
import type { FileRecord } from './trace.js';

/**
 * A disk that may lose what it was not asked to keep, fed with what a program did to a folder. What it may lose is what ext4 (data=ordered) and
 * xfs may lose, simplified to the side of losing less:
 *
 * - Pages of 8 KiB written since the file's last successful sync are each, independently: kept in any of the states that they were in since; lost,
 *   with the content of the last sync back (zeros where there was none); or torn between two such states, the first n × 512 bytes the newer.
 *   A sector of 512 bytes is never torn.
 * - A file that grew since its last sync has any of the sizes that it had since.
 * - Creations, renames, removals and truncations are kept up to a random moment and undone from there on, in the order in which they were
 *   done: these file systems keep them in one journal. A sync of a file or folder makes all of them durable up to the last one that
 *   changed it, or to its last growth. What was written to a file after a truncation that is undone is lost too.
 * - A sync that has returned has done its work.
 *
 * Not covered: disks that lie about a sync; sectors that cannot be read, or other damage to what was not being written; a sync that fails;
 * file systems that keep creations and renames in another order than they were done; modes, owners and times of files; links.
 */
export class Disk {
  readonly #base: string;
  readonly #atStart: ReadonlyMap<string, DiskNode>;
  #now: Map<string, DiskNode>;
  readonly #changes: Change[] = [];
  /** So many of the changes are durable. */
  #durableChanges = 0;
  readonly #open = new Map<number, DiskNode>();

  /** `base` is a folder that is on the disk as a whole. It is read as needed, so it has to stay as it is. */
  constructor(base: string) {
    this.#base = base;
    const nodes = new Map<string, DiskNode>([['', folderNode()]]);
    for (const entry of readdirSync(base, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      const node = entry.isDirectory() ? folderNode() : fileNode(new DiskFile(statSync(path).size, path));
      nodes.set(path.slice(base.length + 1), node);
    }
    this.#atStart = nodes;
    this.#now = new Map(nodes);
  }

  apply(record: FileRecord): void {
    switch (record.op) {
      case 'open':
        return this.#openFile(record.fd, record.path, record);
      case 'write': {
        const node = this.#opened(record.fd);
        // Where a file grows, the journal takes its new size behind everything that stands there now.
        if (node.file.write(record.position, record.bytes)) node.lastChange = this.#changes.length;
        return;
      }
      case 'cut':
        return this.#cut(this.#opened(record.fd), record.size);
      case 'sync': {
        const node = this.#node(record.fd);
        node.file?.sync();
        this.#durableChanges = Math.max(this.#durableChanges, node.lastChange);
        return;
      }
      case 'makeFolder':
        return this.#change({ kind: 'add', path: record.path, node: folderNode() });
      case 'remove':
        return this.#change({ kind: 'remove', path: record.path });
      case 'rename':
        return this.#change({ kind: 'rename', path: record.path, to: record.to });
    }
  }

  /** Puts into the new folder `target` what is left when the power goes now. Returns what was lost, a line each. */
  losePower(target: string, random: Random): string[] {
    const [fewest, all] = [this.#durableChanges, this.#changes.length];
    const kept = random.pick([fewest, all, fewest + random.int(all - fewest + 1)]);
    const lost = this.#changes.slice(kept).map((change) => `undone: ${describeChange(change)}`);
    // A disk that has written nothing, or nearly everything, is as likely as one in between.
    const odds = { keep: random.pick([0, 0.3, 0.6, 0.9, 0.99]), tear: random.pick([0, 0.1, 0.3]) };
    this.#writeFolder(target, this.#namesAfter(kept), (path, file) => {
      const { content, loss } = file.afterPowerLoss(kept, odds, random);
      if (loss !== null) lost.push(`${path}: ${loss}`);
      return content;
    });
    return lost;
  }

  /** Puts everything into the new folder `target` as the program sees it. */
  writeAll(target: string): void {
    this.#writeFolder(target, this.#now, (_, file) => file.current());
  }

  #writeFolder(
    target: string,
    names: ReadonlyMap<string, DiskNode>,
    content: (path: string, file: DiskFile) => Buffer,
  ): void {
    for (const path of [...names.keys()].toSorted()) {
      const { file } = names.get(path) as DiskNode;
      const place = join(target, path);
      if (file === null) mkdirSync(place, { recursive: true, mode: 0o700 });
      else if (file.source !== null) copyFileSync(file.source, place);
      else writeFileSync(place, content(path, file), { mode: 0o600 });
    }
  }

  #openFile(fd: number, path: string, { create, cut }: { create: boolean; cut: boolean }): void {
    let node = this.#now.get(path);
    if (node === undefined) {
      if (!create) throw new Error(`${join(this.#base, path)} was opened, but nobody has made it`);
      node = fileNode(new DiskFile(0, null));
      this.#change({ kind: 'add', path, node });
    }
    if (cut && node.file !== null) this.#cut(node as OpenFile, 0);
    this.#open.set(fd, node);
  }

  #cut(node: OpenFile, size: number): void {
    if (!node.file.cut(size, this.#changes.length)) return;
    this.#changes.push({ kind: 'cut', path: `an open file, to ${size} bytes` });
    node.lastChange = this.#changes.length;
  }

  #change(change: Change): void {
    const before = [change.path, change.to].flatMap((path) => (path === undefined ? [] : [this.#now.get(path)]));
    applyChange(this.#now, change);
    this.#changes.push(change);
    const folders = [change.path, change.to].flatMap((path) =>
      path === undefined ? [] : [this.#now.get(parentOf(path))],
    );
    for (const node of [...before, ...folders, change.node])
      if (node !== undefined) node.lastChange = this.#changes.length;
  }

  #namesAfter(changes: number): Map<string, DiskNode> {
    const names = new Map(this.#atStart);
    for (const change of this.#changes.slice(0, changes)) applyChange(names, change);
    return names;
  }

  #node(fd: number): DiskNode {
    const node = this.#open.get(fd);
    if (node === undefined) throw new Error(`file ${fd} is not open`);
    return node;
  }

  #opened(fd: number): OpenFile {
    const node = this.#node(fd);
    if (node.file === null) throw new Error(`file ${fd} is a folder`);
    return node as OpenFile;
  }
}

interface DiskNode {
  /** Null: a folder. */
  readonly file: DiskFile | null;
  /** How many changes there were after the last that touched it. */
  lastChange: number;
}

type OpenFile = DiskNode & { readonly file: DiskFile };

/** A change of names, or of a file's size downwards, which stands in the same journal. */
interface Change {
  readonly kind: 'add' | 'remove' | 'rename' | 'cut';
  readonly path: string;
  readonly to?: string;
  readonly node?: DiskNode;
}

function folderNode(): DiskNode {
  return { file: null, lastChange: 0 };
}

function fileNode(file: DiskFile): DiskNode {
  return { file, lastChange: 0 };
}

function parentOf(path: string): string {
  const parent = dirname(path);
  return parent === '.' ? '' : parent;
}

function applyChange(names: Map<string, DiskNode>, { kind, path, to, node }: Change): void {
  if (kind === 'add' && node !== undefined) names.set(path, node);
  if (kind === 'remove') names.delete(path);
  if (kind !== 'rename' || to === undefined) return;
  const below = [...names].filter(([name]) => name === path || name.startsWith(`${path}/`));
  for (const [name, moved] of below) {
    names.delete(name);
    names.set(to + name.slice(path.length), moved);
  }
}

function describeChange({ kind, path, to }: Change): string {
  return `${kind} ${path}${to === undefined ? '' : ` → ${to}`}`;
}
