import { hash, randomBytes } from 'node:crypto';

const prefix = 'slk_live_';
const keyPattern = /^slk_live_[A-Za-z0-9_-]{43}$/;

/** A new API key: 32 random bytes, shown once and never stored. */
export function createKeySecret(): string {
  return prefix + randomBytes(32).toString('base64url');
}

/** Whether the text has the form of a key, so that anything else is refused without a look-up. */
export function isKeyShaped(text: string): boolean {
  return keyPattern.test(text);
}

/**
 * What is stored of a key. One SHA-256 is enough where a password would need a slow hash: 256 random bits cannot be guessed.
 */
export function hashKey(key: string): Buffer {
  return hash('sha256', key, 'buffer');
}

/** The beginning of a key, by which people tell theirs apart. */
export function displayPrefix(key: string): string {
  return key.slice(0, prefix.length + 4);
}
