import { Type } from '@sinclair/typebox';
import { invalid } from '../errors.js';
import { isLongerThan } from '../text.js';

export const nameCharsMax = 255;

/** A name that people give. The schema counts UTF-16 units, of which a character may have two; `readName` counts characters. */
export const nameSchema = Type.String({
  minLength: 1,
  maxLength: 2 * nameCharsMax,
  documented: { maxLength: nameCharsMax },
});

/** Throws `validation_failed` for more than 255 characters. */
export function readName(value: unknown): string {
  const name = String(value);
  if (isLongerThan(name, nameCharsMax)) {
    throw invalid({ path: '/name', message: `must have at most ${nameCharsMax} characters` });
  }
  return name;
}
