import type { TObject } from 'typebox';
import { Compile } from 'typebox/compile';
import type { FieldError } from '../errors.js';
import { invalid } from '../errors.js';
import { fieldErrorsMax } from '../ingest/json-body.js';

export type Validator = (value: Readonly<Record<string, unknown>>) => void;

/** Checks an object against its schema. The validator throws `validation_failed` with every field that is wrong, and what would be right. */
export function bodyValidator(schema: TObject): Validator {
  const validator = Compile(schema);
  return (value) => {
    if (validator.Check(value)) return;
    throw invalid(...describe(validator.Errors(value), schema, ''));
  };
}

/** Reads a query string against its schema: `integer` parameters become numbers, `array` ones may be repeated, no other may. */
export function queryReader(schema: TObject): (search: string) => Record<string, unknown> {
  const validator = Compile(schema);
  const properties = schema.properties as Record<string, { readonly type?: string }>;
  return (search) => {
    // Without prototype, so that __proto__ is an unknown parameter like any other.
    const values: Record<string, unknown> = Object.create(null);
    const errors: FieldError[] = [];
    for (const [name, text] of new URLSearchParams(search)) {
      const type = Object.hasOwn(properties, name) ? properties[name]?.type : undefined;
      if (type === 'array') {
        const list = (values[name] ??= []) as string[];
        list.push(text);
      } else if (Object.hasOwn(values, name)) {
        errors.push({ path: `?${name.slice(0, nameCharsMax)}`, message: 'appears more than once; send it once' });
      } else {
        values[name] = type === 'integer' && /^\d{1,15}$/.test(text) ? Number(text) : text;
      }
    }
    if (!validator.Check(values)) errors.push(...describe(validator.Errors(values), schema, '?'));
    if (errors.length > 0) throw invalid(...errors.slice(0, fieldErrorsMax));
    return values;
  };
}

/** A client's name is shown up to here. */
const nameCharsMax = 64;

interface SchemaError {
  readonly keyword: string;
  readonly schemaPath: string;
  readonly instancePath: string;
  readonly message: string;
  readonly params: object;
}

function describe(found: readonly SchemaError[], schema: TObject, prefix: '' | '?'): FieldError[] {
  const errors = new Map<string, string>();
  const add = (path: string, message: string): void => {
    const shown = prefix === '?' ? `?${path.slice(1)}` : path;
    if (!errors.has(shown) && errors.size < fieldErrorsMax) errors.set(shown, message);
  };
  for (const error of found) {
    if (error.keyword === 'required') {
      const { requiredProperties } = error.params as { requiredProperties: string[] };
      for (const name of requiredProperties) add(`${error.instancePath}/${name}`, 'is required');
    } else if (error.keyword === 'boolean') {
      // One for each field that is not known; the one `additionalProperties` for all of them is cut off where they are many.
      const parent = error.schemaPath.replace(/^#|\/additionalProperties$/g, '').replaceAll('/properties/', '/');
      const path = error.instancePath.slice(0, parent.length + 1 + nameCharsMax);
      add(path, unknownMessage(nodeAt(schema, parent)));
    } else if (error.keyword === 'const') {
      add(error.instancePath, `must be one of ${choices(nodeAt(schema, error.instancePath))}`);
    } else if (error.keyword !== 'additionalProperties' && error.keyword !== 'anyOf') {
      add(error.instancePath, error.message);
    }
  }
  return Array.from(errors, ([path, message]) => ({ path, message }));
}

type SchemaNode = Readonly<Record<string, unknown>> | undefined;

/** The schema of the value at a path. */
function nodeAt(schema: object, path: string): SchemaNode {
  let node = schema as SchemaNode;
  for (const step of path.split('/').slice(1)) {
    const properties = node?.['properties'] as Record<string, unknown> | undefined;
    node = (properties?.[step] ?? node?.['items']) as SchemaNode;
  }
  return node;
}

function unknownMessage(node: SchemaNode): string {
  const known = Object.keys(node?.['properties'] ?? {}).join(', ');
  return known === '' ? 'is not known; nothing is accepted here' : `is not known here; there is: ${known}`;
}

/** The constants that a schema allows. */
function choices(node: SchemaNode): string {
  const options = (node?.['anyOf'] ?? [node]) as ({ const?: unknown } | undefined)[];
  return options.map((option) => String(option?.const)).join(', ');
}
