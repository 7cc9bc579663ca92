import { escaped, inline, table } from './html.js';
import type { JsonSchema } from './json-schema.js';

/** What a schema takes, in a few words of HTML. A component is a link. */
export function schemaText(schema: JsonSchema): string {
  const { $ref, anyOf, allOf, type, items } = schema;
  if (typeof $ref === 'string') {
    const name = $ref.slice($ref.lastIndexOf('/') + 1);
    return `<a href="#schema-${name}">${name}</a>`;
  }
  const options = (anyOf ?? allOf) as JsonSchema[] | undefined;
  if (options !== undefined) {
    // What has only properties narrows the others, and stands elsewhere.
    return options
      .filter((option) => !('properties' in option && !('type' in option)))
      .map(schemaText)
      .join(' or ');
  }
  if ('const' in schema) return codes([schema['const']]);
  if (Array.isArray(schema['enum'])) return codes(schema['enum']);
  if (type === 'array')
    return `array of ${schemaText(items as JsonSchema)}${range(schema, 'minItems', 'maxItems', '')}`;
  if (type === undefined) return 'any JSON value';
  const names = (type as string | readonly string[]).toString().replaceAll(',', ' or ');
  const format = schema['format'] === 'date-time' ? ' (time)' : '';
  const lengths = range(schema, 'minLength', 'maxLength', ' characters');
  return `${escaped(names)}${format}${lengths}${range(schema, 'minimum', 'maximum', '')}`;
}

function codes(values: readonly unknown[]): string {
  return values.map((value) => `<code>${escaped(JSON.stringify(value))}</code>`).join(' | ');
}

function range(schema: JsonSchema, least: string, most: string, unit: string): string {
  const [min, max] = [schema[least], schema[most]].map((value) =>
    typeof value === 'number' ? value.toLocaleString('en-US') : null,
  );
  if (min === null && max === null) return '';
  if (max === null || max === undefined) return `, at least ${min}${unit}`;
  return `, ${min === null ? 'at most' : `${min} to`} ${max}${unit}`;
}

/** The fields of an object as a table; '' for what has none. */
export function fieldsTable(caption: string, schema: JsonSchema): string {
  const fields = Object.entries((schema['properties'] ?? {}) as Record<string, JsonSchema>);
  if (fields.length === 0) return '';
  const required = new Set((schema['required'] ?? []) as string[]);
  const rows = fields.flatMap(([name, field]) => fieldRows(name, field, required.has(name)));
  return table(caption, ['field', 'type', 'meaning'], rows);
}

function fieldRows(name: string, field: JsonSchema, isRequired: boolean): string[][] {
  const description = typeof field['description'] === 'string' ? inline(field['description']) : '';
  const row = [`<code>${escaped(name)}</code>`, `${schemaText(field)}${isRequired ? '' : ', optional'}`, description];
  const inner = Object.entries((field['properties'] ?? {}) as Record<string, JsonSchema>);
  const required = new Set((field['required'] ?? []) as string[]);
  return [row, ...inner.flatMap(([part, schema]) => fieldRows(`${name}.${part}`, schema, required.has(part)))];
}
