import type { TSchema } from '@sinclair/typebox';
import { fieldTexts } from './field-texts.js';

export type JsonSchema = Readonly<Record<string, unknown>>;

/** Keywords whose value is a schema, a list of schemas, or schemas by name. */
const single = new Set(['items', 'additionalProperties', 'not', 'contains']);
const lists = new Set(['anyOf', 'allOf', 'oneOf']);
const named = new Set(['properties', 'patternProperties']);

/**
 * TypeBox schemas as the document shows them: one with an `$id` becomes a component that others refer to, a union of literals an `enum`, a type or
 * null a list of types. The keywords in `documented` replace those that the server itself checks by, where JSON Schema can say more than
 * TypeBox, or counts otherwise. Every field is described: by its own description, or by that of its name.
 */
export class SchemaComponents {
  readonly schemas: Record<string, JsonSchema> = {};

  of(schema: TSchema): JsonSchema {
    const id = schema.$id;
    if (id === undefined) return this.#convert(schema);
    if (!(id in this.schemas)) {
      // Before its own parts, so that one that refers to itself ends.
      this.schemas[id] = {};
      this.schemas[id] = this.#convert(schema);
    }
    return { $ref: `#/components/schemas/${id}` };
  }

  #convert(schema: TSchema): JsonSchema {
    const plain: Record<string, unknown> = {};
    for (const [key, value] of Object.entries(schema)) {
      if (key === '$id' || key === 'documented') continue;
      if (single.has(key) && typeof value === 'object') plain[key] = this.of(value as TSchema);
      else if (lists.has(key)) plain[key] = (value as TSchema[]).map((part) => this.of(part));
      else if (named.has(key)) plain[key] = this.#fields(value as Record<string, TSchema>, key === 'properties');
      else plain[key] = value;
    }
    return simplified({ ...plain, ...(schema['documented'] as JsonSchema | undefined) });
  }

  #fields(fields: Readonly<Record<string, TSchema>>, areDescribed: boolean): JsonSchema {
    return Object.fromEntries(
      Object.entries(fields).map(([name, field]) => {
        const schema = this.of(field);
        const description = schema['description'] ?? (areDescribed ? fieldTexts[name] : undefined);
        return [name, description === undefined ? schema : { ...schema, description }];
      }),
    );
  }
}

function simplified(schema: Record<string, unknown>): JsonSchema {
  const { anyOf, ...rest } = schema;
  if (!Array.isArray(anyOf)) return schema;
  const options = anyOf as JsonSchema[];
  if (options.every((option) => 'const' in option)) {
    return { type: options[0]?.['type'], enum: options.map((option) => option['const']), ...rest };
  }
  const [first, second] = options;
  if (options.length === 2 && second?.['type'] === 'null' && typeof first?.['type'] === 'string') {
    const values = first['enum'] as unknown[] | undefined;
    return { ...first, type: [first['type'], 'null'], ...(values && { enum: [...values, null] }), ...rest };
  }
  return schema;
}
