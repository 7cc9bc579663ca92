import type { TObject } from '@sinclair/typebox';
import { TypeCompiler, ValueErrorType } from '@sinclair/typebox/compiler';
import type { TypeCheck, ValueError } from '@sinclair/typebox/compiler';
import type { FieldError } from '../errors.js';
import { invalid } from '../errors.js';
import { fieldErrorsMax } from '../ingest/json-body.js';

export type Validator = (value: Readonly<Record<string, unknown>>) => void;

/** Checks an object against its schema. The validator throws `validation_failed` with every field that is wrong, and what would be right. */
export function bodyValidator(schema: TObject): Validator {
  const validatorOf = compiledOnce(schema);
  return (value) => {
    const validator = validatorOf();
    if (validator.Check(value)) return;
    throw invalid(...describe(validator.Errors(value), ''));
  };
}

/** Reads a query string against its schema: `integer` parameters become numbers, `array` ones may be repeated, no other may. */
export function queryReader(schema: TObject): (search: string) => Record<string, unknown> {
  const validatorOf = compiledOnce(schema);
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
    const validator = validatorOf();
    if (!validator.Check(values)) errors.push(...describe(validator.Errors(values), '?'));
    if (errors.length > 0) throw invalid(...errors.slice(0, fieldErrorsMax));
    return values;
  };
}

/** Compiled at the first use: a start has better things to do. */
function compiledOnce(schema: TObject): () => TypeCheck<TObject> {
  let validator: TypeCheck<TObject> | undefined;
  return () => (validator ??= TypeCompiler.Compile(schema));
}

/** A client's name is shown up to here. */
const nameCharsMax = 64;

function describe(found: Iterable<ValueError>, prefix: '' | '?'): FieldError[] {
  const errors = new Map<string, string>();
  for (const error of closest(found)) {
    if (errors.size === fieldErrorsMax) break;
    const path = error.path.slice(0, pathCharsMax);
    const shown = prefix === '?' ? `?${path.slice(1)}` : path;
    // The first error of a path says most: what is missing is of the wrong type as well.
    if (!errors.has(shown)) errors.set(shown, messageOf(error));
  }
  return Array.from(errors, ([path, message]) => ({ path, message }));
}

/** In place of an error of a choice, what is wrong with the one option that has the value's type: more helps only where there is one. */
function* closest(found: Iterable<ValueError>): Generator<ValueError> {
  for (const error of found) {
    const options = error.type === ValueErrorType.Union ? error.errors : [];
    const fitting = options.map(some).filter(([first]) => first !== undefined && !isOfOtherType(first, error));
    if (fitting.length === 1 && fitting[0] !== undefined) yield* closest(fitting[0]);
    else yield error;
  }
}

/** As many as a reply lists: there is one for each item of a list. */
function some(errors: Iterable<ValueError>): ValueError[] {
  const taken: ValueError[] = [];
  for (const error of errors) {
    if (taken.push(error) === fieldErrorsMax) break;
  }
  return taken;
}

/** Whether an option is not what was meant: its first error is that the whole value has another type than it. */
function isOfOtherType({ path, type }: ValueError, choice: ValueError): boolean {
  return path === choice.path && otherTypes.has(type);
}

const otherTypes: ReadonlySet<ValueErrorType> = new Set([
  ValueErrorType.Array,
  ValueErrorType.Boolean,
  ValueErrorType.Integer,
  ValueErrorType.Literal,
  ValueErrorType.Null,
  ValueErrorType.Number,
  ValueErrorType.Object,
  ValueErrorType.String,
]);

/** A client's field is shown up to here. */
const pathCharsMax = 64;

function messageOf({ type, schema, message }: ValueError): string {
  switch (type) {
    case ValueErrorType.ObjectRequiredProperty:
      return 'is required';
    case ValueErrorType.ObjectAdditionalProperties: {
      const known = Object.keys((schema as TObject).properties).join(', ');
      return known === '' ? 'is not known; nothing is accepted here' : `is not known here; there is: ${known}`;
    }
    case ValueErrorType.ArrayMinItems:
      return `must have ${schema['minItems']} or more items`;
    case ValueErrorType.ArrayMaxItems:
      return `must have ${schema['maxItems']} items at most`;
    case ValueErrorType.Literal:
      return `must be ${JSON.stringify(schema['const'])}`;
    case ValueErrorType.Union: {
      const options = schema['anyOf'] as { const?: unknown; type?: unknown }[];
      return `must be one of ${options.map((option) => String(option.const ?? option.type)).join(', ')}`;
    }
    default:
      return message.replace(/^Expected /, 'must be: ');
  }
}
