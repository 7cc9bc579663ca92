import type { SluiceError } from '../client/index.js';

/** Why a request failed, as one sentence for the person who ran the command, which says what to do next. It holds no key. */
export function errorSentence(error: SluiceError, isAdmin = false): string {
  switch (error.code) {
    case 'unreachable':
      return `${withoutStop(error.detail)}; start one with \`sluice start\`, or name another with --url or SLUICE_URL.`;
    case 'no_answer':
      return `${withoutStop(error.detail)}; it is not known whether it was done. Look whether the server is well, then try again.`;
    case 'missing_key':
    case 'invalid_key':
      return isAdmin
        ? 'The server does not take this admin token; give the right one with --admin-token or SLUICE_ADMIN_TOKEN.'
        : 'The server does not know this key; give another with --key or SLUICE_KEY.';
    case 'insufficient_scope':
      return `${error.detail} Use a key that has it: \`sluice keys create NAME --scopes …\` with a key that may grant it.`;
    default: {
      const request = error.requestId === null ? '' : `, request ${error.requestId}`;
      return `${error.detail} (${error.code}${request})`;
    }
  }
}

function withoutStop(sentence: string): string {
  return sentence.replace(/\.$/, '');
}
