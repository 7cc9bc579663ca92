/** Binary COPY data of `count` rows for a table (int, text): the row's number, and `text` filled up to `length` bytes. */
export function binaryRows(count: number, text: string, length: number): Buffer {
  const header = Buffer.alloc(19);
  header.write('PGCOPY\n\xff\r\n\0', 'latin1');
  const rows = Array.from({ length: count }, (_, number) => {
    const row = Buffer.alloc(14 + length, '.');
    row.writeInt16BE(2, 0);
    row.writeInt32BE(4, 2);
    row.writeInt32BE(number, 6);
    row.writeInt32BE(length, 10);
    row.write(text, 14);
    return row;
  });
  return Buffer.concat([header, ...rows, Buffer.from([0xff, 0xff])]);
}

export const garbage = Buffer.from('not a binary COPY at all');
