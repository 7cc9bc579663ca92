/**
 * What the text of a setting may be. A type turns the text into its value or throws a `SettingError` that says what would be right. The
 * message repeats the text unless the setting is secret, so a secret type's message never contains it.
 */
import { accessSync, constants, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, resolve } from 'node:path';
import { parsePostgresUrl, PostgresUrlError } from './postgres-url.js';

export interface SettingType<Value> {
  /** What the help shows in place of the value: `--port <port>`. */
  readonly placeholder: string;
  /** `cwd` is what a relative path is relative to. */
  parse(text: string, cwd: string): Value;
}

export class SettingError extends Error {
  override readonly name = 'SettingError';
}

const shownCharsMax = 80;

function shown(text: string): string {
  return text.length > shownCharsMax ? `${text.slice(0, shownCharsMax)}…` : text;
}

export function wholeNumber(placeholder: string, what: string, min: number, max: number): SettingType<number> {
  return {
    placeholder,
    parse(text) {
      // Only plain digits: Number() would also take '0x10', '1e3', ' 8 ' and ''.
      const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
      if (value >= min && value <= max) return value;
      throw new SettingError(`${shown(text)} is not ${what}; use a whole number from ${min} to ${max}`);
    },
  };
}

export function oneOf<const Choice extends string>(
  placeholder: string,
  choices: readonly Choice[],
): SettingType<Choice> {
  return {
    placeholder,
    parse(text) {
      const choice = choices.find((known) => known === text);
      if (choice !== undefined) return choice;
      throw new SettingError(`${shown(text)} is not a ${placeholder}; use one of ${choices.join(', ')}`);
    },
  };
}

/** Anything: who gets it knows better what it may be. */
export function anyText(placeholder: string): SettingType<string> {
  return { placeholder, parse: (given) => given };
}

const hostName =
  /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$/;

export const host: SettingType<string> = {
  placeholder: 'host',
  parse(text) {
    if (isIP(text) !== 0 || hostName.test(text)) return text;
    throw new SettingError(
      `${shown(text)} is not a host; use a name or an IP address without scheme, port or brackets, such as 127.0.0.1 or ::1`,
    );
  },
};

export const folder: SettingType<string> = {
  placeholder: 'folder',
  parse: (text, cwd) => resolve(cwd, text),
};

/**
 * Why a data folder could not be kept at `path` (absolute), or undefined. What does not exist yet will be made, so then its nearest ancestor
 * that does exist is what matters.
 */
export function folderProblem(path: string): string | undefined {
  let existing = path;
  try {
    while (!exists(existing)) existing = dirname(existing);
    if (!statSync(existing).isDirectory())
      return `${existing} is not a folder; use a folder that this user may write to`;
    accessSync(existing, constants.W_OK | constants.X_OK);
    return undefined;
  } catch {
    return `${existing} cannot be written by this user; use a folder that can be, or change its owner`;
  }
}

/** Also false below a file, where stat fails instead of finding nothing. */
function exists(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOTDIR') return false;
    throw error;
  }
}

/** Kept as text: whoever connects reads it again. */
export const postgresUrl: SettingType<string> = {
  placeholder: 'url',
  parse(text) {
    if (!/^postgres(ql)?:\/\/\S+$/.test(text)) {
      throw new SettingError(
        'not the address of a PostgreSQL database; use postgres://user:password@host:5432/database',
      );
    }
    try {
      parsePostgresUrl(text);
    } catch (error) {
      throw error instanceof PostgresUrlError ? new SettingError(error.message) : error;
    }
    return text;
  },
};

/** Sent in a header as `Bearer <token>`, where a space or a character outside ASCII would not arrive as it was written. */
export const bearerToken: SettingType<string> = {
  placeholder: 'token',
  parse(text) {
    if (text.startsWith('slk_live_')) throw new SettingError('has the form of an API key; use a token of another form');
    if (/^[\x21-\x7e]{16,256}$/.test(text)) return text;
    const fault = /^.{16,256}$/su.test(text)
      ? 'a character that does not survive a header'
      : `${text.length} characters`;
    throw new SettingError(`${fault}; use 16 to 256 printable ASCII characters without spaces`);
  },
};
