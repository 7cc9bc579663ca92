/**
 * What a client that was written for one document of the API finds broken in another. It may send what it could send before, and reads what it was
 * told of: so a request may not be asked for more or refused earlier, and a reply may not hold less. What is added is no change to it.
 */

type Node = Readonly<Record<string, unknown>>;

/** One line for each change that breaks a client, which starts with where it is. */
export function breakingChanges(before: Node, after: Node): string[] {
  return new Comparison(before, after).run();
}

class Comparison {
  readonly #changes: string[] = [];

  constructor(
    private readonly before: Node,
    private readonly after: Node,
  ) {}

  run(): string[] {
    const [paths, nowPaths] = [nodeOf(this.before['paths']), nodeOf(this.after['paths'])];
    for (const [path, methods] of entriesOf(paths)) {
      for (const [method, operation] of entriesOf(methods)) {
        const at = `${method.toUpperCase()} ${path}`;
        const now = nodeOf(nowPaths[path])[method];
        if (now === undefined) this.#add(at, 'is gone');
        else this.#operation(at, operation, nodeOf(now));
      }
    }
    const limits = nodeOf(this.after['x-limits']);
    for (const [name, value] of Object.entries(nodeOf(this.before['x-limits']))) {
      if (!(Number(limits[name]) >= Number(value))) this.#add(`limit ${name}`, 'is lower');
    }
    return this.#changes;
  }

  #add(at: string, what: string): void {
    this.#changes.push(`${at}: ${what}`);
  }

  #operation(at: string, was: Node, now: Node): void {
    if (was['operationId'] !== now['operationId']) this.#add(at, `is called ${String(now['operationId'])}`);
    this.#security(at, was, now);
    this.#parameters(at, listOf(was['parameters']), listOf(now['parameters']));
    this.#body(at, was['requestBody'], now['requestBody']);
    const [replies, nowReplies] = [nodeOf(was['responses']), nodeOf(now['responses'])];
    for (const [status, reply] of entriesOf(replies)) {
      // Which refusals there are is for the server to say; a client decides by the codes that it knows.
      if (isRefusal(this.#resolved(this.before, reply))) continue;
      if (nowReplies[status] === undefined) this.#add(`${at} ${status}`, 'is gone');
      else this.#reply(`${at} ${status}`, reply, nodeOf(nowReplies[status]));
    }
  }

  #security(at: string, was: Node, now: Node): void {
    const ways = listOf(now['security']);
    const isOpen = ways.length === 0;
    for (const way of listOf(was['security'])) {
      const same = ways.some((other) =>
        Object.entries(other).every(([scheme, scopes]) => {
          const had = way[scheme] as readonly unknown[] | undefined;
          return had !== undefined && (scopes as readonly unknown[]).every((scope) => had.includes(scope));
        }),
      );
      if (!isOpen && !same) this.#add(at, `${Object.keys(way).join(' and ')} no longer opens it`);
    }
    if (listOf(was['security']).length === 0 && !isOpen) this.#add(at, 'is no longer public');
  }

  #parameters(at: string, was: readonly Node[], now: readonly Node[]): void {
    const keyOf = (parameter: Node): string => `${String(parameter['in'])} ${String(parameter['name'])}`;
    for (const parameter of was) {
      const key = keyOf(parameter);
      const other = now.find((one) => keyOf(one) === key);
      if (other === undefined) this.#add(`${at} ${key}`, 'is gone');
      else this.#narrowed(`${at} ${key}`, nodeOf(parameter['schema']), nodeOf(other['schema']));
    }
    for (const parameter of now) {
      const other = was.find((one) => keyOf(one) === keyOf(parameter));
      if (parameter['required'] === true && other?.['required'] !== true)
        this.#add(`${at} ${keyOf(parameter)}`, 'is required now');
    }
  }

  #body(at: string, was: unknown, now: unknown): void {
    if (was === undefined) {
      if (nodeOf(now)['required'] === true) this.#add(`${at} body`, 'is required now');
      return;
    }
    if (now === undefined) return this.#add(`${at} body`, 'is gone');
    const [body, other] = [nodeOf(was), nodeOf(now)];
    if (other['required'] === true && body['required'] !== true) this.#add(`${at} body`, 'is required now');
    if (Number(other['x-bytes-max']) < Number(body['x-bytes-max'])) this.#add(`${at} body`, 'may have fewer bytes');
    for (const [mediaType, content] of entriesOf(nodeOf(body['content']))) {
      const same = nodeOf(other['content'])[mediaType];
      if (same === undefined) this.#add(`${at} ${mediaType}`, 'is no longer taken');
      else this.#narrowed(`${at} body`, nodeOf(content['schema']), nodeOf(nodeOf(same)['schema']));
    }
  }

  #reply(at: string, was: Node, now: Node): void {
    const [reply, other] = [this.#resolved(this.before, was), this.#resolved(this.after, now)];
    for (const name of Object.keys(nodeOf(reply['headers']))) {
      if (nodeOf(other['headers'])[name] === undefined) this.#add(`${at} header ${name}`, 'is gone');
    }
    for (const [mediaType, content] of entriesOf(nodeOf(reply['content']))) {
      const same = nodeOf(other['content'])[mediaType];
      if (same === undefined) this.#add(`${at} ${mediaType}`, 'is gone');
      else this.#loosened(at, nodeOf(content['schema']), nodeOf(nodeOf(same)['schema']));
    }
  }

  /** Of what a client sends: `now` takes less than `was`. */
  #narrowed(at: string, was: Node, now: Node): void {
    const [schema, other] = [this.#resolved(this.before, was), this.#resolved(this.after, now)];
    for (const type of typesOf(schema)) if (!takesType(other, type)) this.#add(at, `may no longer be ${type}`);
    if (typesOf(schema).length === 0 && typesOf(other).length > 0) this.#add(at, 'may no longer be anything');
    for (const value of valuesOf(schema)) {
      if (hasValues(other) && !valuesOf(other).includes(value))
        this.#add(at, `may no longer be ${JSON.stringify(value)}`);
    }
    if (!hasValues(schema) && hasValues(other)) this.#add(at, 'may no longer be any value of its type');
    for (const name of uppers)
      if (numberOf(other[name], Infinity) < numberOf(schema[name], Infinity)) this.#add(at, `${name} is lower`);
    for (const name of lowers)
      if (numberOf(other[name], -Infinity) > numberOf(schema[name], -Infinity)) this.#add(at, `${name} is higher`);
    for (const name of ['pattern', 'format']) {
      if (other[name] !== undefined && other[name] !== schema[name]) this.#add(at, `has another ${name}`);
    }
    const required = (schema['required'] ?? []) as unknown[];
    for (const name of (other['required'] ?? []) as unknown[])
      if (!required.includes(name)) this.#add(`${at}/${String(name)}`, 'is required now');
    const fields = nodeOf(other['properties']);
    for (const [name, field] of entriesOf(nodeOf(schema['properties']))) {
      if (fields[name] !== undefined) this.#narrowed(`${at}/${name}`, field, nodeOf(fields[name]));
      else if (other['additionalProperties'] === false) this.#add(`${at}/${name}`, 'is gone');
    }
    if (other['additionalProperties'] === false && schema['additionalProperties'] !== false && 'properties' in schema) {
      this.#add(at, 'no longer takes other fields');
    }
    this.#parts(at, schema, other, (place, a, b) => this.#narrowed(place, a, b));
  }

  /** Of what a client reads: `now` may be what `was` could not. */
  #loosened(at: string, was: Node, now: Node): void {
    const [schema, other] = [this.#resolved(this.before, was), this.#resolved(this.after, now)];
    const types = typesOf(schema);
    if (types.length > 0 && typesOf(other).length === 0) this.#add(at, 'may be anything now');
    for (const type of typesOf(other))
      if (types.length > 0 && !takesType(schema, type)) this.#add(at, `may be ${type} now`);
    if (hasValues(schema)) {
      for (const value of valuesOf(other))
        if (!valuesOf(schema).includes(value)) this.#add(at, `may be ${JSON.stringify(value)} now`);
      if (!hasValues(other)) this.#add(at, 'may be any value of its type now');
    }
    for (const mark of ['required', 'x-present-without-fields']) {
      const present = (other[mark] ?? []) as unknown[];
      for (const name of (schema[mark] ?? []) as unknown[]) {
        if (!present.includes(name)) this.#add(`${at}/${String(name)}`, 'may be absent now');
      }
    }
    const fields = nodeOf(other['properties']);
    for (const [name, field] of entriesOf(nodeOf(schema['properties']))) {
      // A code that is new is an addition, as a new refusal is.
      if (name === 'code') continue;
      if (fields[name] === undefined) this.#add(`${at}/${name}`, 'is gone');
      else this.#loosened(`${at}/${name}`, field, nodeOf(fields[name]));
    }
    for (const name of ['pattern', 'format']) {
      if (schema[name] !== undefined && other[name] !== schema[name]) this.#add(at, `has another ${name}`);
    }
    this.#parts(at, schema, other, (place, a, b) => this.#loosened(place, a, b));
  }

  /** Items, and alternatives one by one: they are compared in their order. */
  #parts(at: string, was: Node, now: Node, compare: (at: string, was: Node, now: Node) => void): void {
    if ('items' in was && 'items' in now) compare(`${at}[]`, nodeOf(was['items']), nodeOf(now['items']));
    const [options, others] = [listOf(was['anyOf']), listOf(now['anyOf'])];
    if (options.length !== others.length) this.#add(at, 'has other alternatives');
    else for (const [i, option] of options.entries()) compare(`${at}(${i})`, option, others[i] ?? {});
  }

  #resolved(document: Node, schema: Node): Node {
    const ref = schema['$ref'];
    if (typeof ref !== 'string') return schema;
    const [, , kind = '', name = ''] = ref.split('/');
    return nodeOf(nodeOf(nodeOf(document['components'])[kind])[name]);
  }
}

const uppers = ['maximum', 'exclusiveMaximum', 'maxLength', 'maxItems', 'maxProperties'];
const lowers = ['minimum', 'exclusiveMinimum', 'minLength', 'minItems', 'minProperties'];

function isRefusal(reply: Node): boolean {
  return 'application/problem+json' in nodeOf(reply['content']);
}

function nodeOf(value: unknown): Node {
  return typeof value === 'object' && value !== null ? (value as Node) : {};
}

function entriesOf(node: Node): [string, Node][] {
  return Object.entries(node).map(([name, value]) => [name, nodeOf(value)]);
}

function listOf(value: unknown): readonly Node[] {
  return Array.isArray(value) ? (value as Node[]) : [];
}

function typesOf(schema: Node): readonly string[] {
  const { type } = schema;
  return Array.isArray(type) ? (type as string[]) : typeof type === 'string' ? [type] : [];
}

/** A number may be an integer. */
function takesType(schema: Node, type: string): boolean {
  const types = typesOf(schema);
  return types.length === 0 || types.includes(type) || (type === 'integer' && types.includes('number'));
}

function hasValues(schema: Node): boolean {
  return 'enum' in schema || 'const' in schema;
}

function valuesOf(schema: Node): readonly unknown[] {
  return 'const' in schema ? [schema['const']] : ((schema['enum'] ?? []) as unknown[]);
}

function numberOf(value: unknown, otherwise: number): number {
  return typeof value === 'number' ? value : otherwise;
}
