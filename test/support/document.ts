import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The path of a file in docs/, wherever the tests were built to: beside migrations/, which the built program needs, too. */
export function documentPath(name: string): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'docs', name))) {
    if (folder === dirname(folder)) throw new Error(`no docs/${name}`);
    folder = dirname(folder);
  }
  return join(folder, 'docs', name);
}

/** The tables of a Markdown text: of each its rows, of each row its cells, without heads and rules. */
export function tableRows(text: string): string[][][] {
  const tables = text.split(/\n(?!\|)/).filter((block) => /^\|[\s|:-]+\|$/m.test(block));
  return tables.map((table) =>
    table
      .split('\n')
      .filter((line) => line.startsWith('|'))
      .slice(2)
      .map((line) =>
        line
          .slice(1, line.lastIndexOf('|'))
          .split('|')
          .map((cell) => cell.trim()),
      ),
  );
}
