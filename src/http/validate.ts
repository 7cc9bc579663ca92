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
    const values: Record<string, unknown> = {};
    const errors: FieldError[] = [];
    for (const [name, text] of new URLSearchParams(search)) {
      const type = Object.hasOwn(properties, name) ? properties[name]?.type : undefined;
      if (type === 'array') {
        const list = (values[name] ??= []) as string[];
        list.push(text);
      } else if (Object.hasOwn(values, name)) {
        errors.push({ path: `?${name.slice(0, 64)}`, message: 'appears more than once; send it once' });
      } else {
        values[name] = type === 'integer' && /^\d{1,15}$/.test(text) ? Number(text) : text;
      }
    }
    if (!validator.Check(values)) errors.push(...describe(validator.Errors(values), schema, '?'));
    if (errors.length > 0) throw invalid(...errors.slice(0, fieldErrorsMax));
    return values;
  };
}

interface SchemaError {
  readonly keyword: string;
  readonly instancePath: string;
  readonly message: string;
  readonly params: object;
}

function describe(found: readonly SchemaError[], schema: TObject, prefix: '' | '?'): FieldError[] {
  const known = Object.keys(schema.properties).join(', ');
  const errors = new Map<string, string>();
  const add = (path: string, message: string): void => {
    const shown = prefix === '?' ? `?${path.slice(1)}` : path;
    if (!errors.has(shown) && errors.size < fieldErrorsMax) errors.set(shown, message);
  };
  for (const error of found) {
    const params = error.params as Record<string, unknown>;
    if (error.keyword === 'required') {
      for (const name of params['requiredProperties'] as string[]) add(`${error.instancePath}/${name}`, 'is required');
    } else if (error.keyword === 'additionalProperties') {
      for (const name of params['additionalProperties'] as string[]) {
        const what = known === '' ? 'is not known; nothing is accepted here' : `is not known here; there is: ${known}`;
        add(`${error.instancePath}/${name.slice(0, 64)}`, what);
      }
    } else if (error.keyword === 'const') {
      add(error.instancePath, `must be one of ${choices(schema, error.instancePath)}`);
    } else if (error.keyword !== 'boolean' && error.keyword !== 'anyOf') {
      add(error.instancePath, error.message);
    }
  }
  return Array.from(errors, ([path, message]) => ({ path, message }));
}

/** The constants that the schema allows at a path, for the message. */
function choices(schema: object, path: string): string {
  let node = schema as Record<string, unknown> | undefined;
  for (const step of path.split('/').slice(1)) {
    const properties = node?.['properties'] as Record<string, unknown> | undefined;
    node = (properties?.[step] ?? node?.['items']) as Record<string, unknown> | undefined;
  }
  const options = (node?.['anyOf'] ?? [node]) as ({ const?: unknown } | undefined)[];
  return options.map((option) => String(option?.const)).join(', ');
}
