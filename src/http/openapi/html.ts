/** Text made safe for HTML, in a tag or in an attribute. */
export function escaped(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** The same, with `code spans` as code and each line as a paragraph of its own. */
export function paragraphs(text: string): string {
  return text
    .split('\n')
    .map((line) => `<p>${inline(line)}</p>`)
    .join('\n');
}

export function inline(text: string): string {
  return escaped(text).replaceAll(/`([^`]+)`/g, '<code>$1</code>');
}

/** A table that scrolls in itself on a narrow screen. Cells are HTML; the first of each row names it. */
export function table(caption: string, heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const head = heads.map((name) => `<th scope="col">${name}</th>`).join('');
  const body = rows.map(([name = '', ...cells]) => {
    return `<tr><th scope="row">${name}</th>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`;
  });
  const label = `role="region" aria-label="${escaped(caption)}" tabindex="0"`;
  return `<div class="table" ${label}><table><thead><tr>${head}</tr></thead><tbody>\n${body.join('\n')}\n</tbody></table></div>`;
}
