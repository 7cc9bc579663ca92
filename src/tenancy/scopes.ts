/** What a key may be allowed to do, in the order in which they are listed. */
export const scopes = [
  'events:write',
  'events:read',
  'inbox:read',
  'inbox:consume',
  'webhooks:manage',
  'keys:manage',
  'org:manage',
] as const;

export type KeyScope = (typeof scopes)[number];

export function isKeyScope(text: string): text is KeyScope {
  return (scopes as readonly string[]).includes(text);
}
