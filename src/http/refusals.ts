/** Refusals that do not come from a route. */
import type { IncomingMessage } from 'node:http';
import { Problem } from '../errors.js';
import { countHeader } from './admit.js';
import type { Route } from './route.js';

/** Whether the client closed the connection before its body had arrived: the error is the one that ended the body. */
export function leftInTheBody(error: unknown, request: IncomingMessage): boolean {
  return error === request.errored && (error as NodeJS.ErrnoException).code === 'ECONNRESET';
}

/** 404 where no route has this path, 405 where one has it with another method. */
export function notFound(request: IncomingMessage, routes: readonly Route[]): Problem {
  const path = routedPath(request.url ?? '');
  const methods = routes.filter((route) => matches(route.path, path)).map((route) => route.method);
  if (methods.length === 0) return new Problem('not_found', `There is nothing at this path.`);
  const allow = [...new Set(methods.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])))].join(', ');
  return new Problem('method_not_allowed', `This path takes ${allow}.`, { headers: { Allow: allow } });
}

/** The path as the router reads it: without an origin before it or a query behind it, percent-encoding resolved. */
function routedPath(url: string): string {
  const [path = ''] = url.replace(/^https?:\/\/[^/?#]*/i, '').split(/[?#]/, 1);
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}

/** RFC 9112, 3.2: HTTP/1.1 needs one Host, and more than one may have been read by different rules on the way here. */
export function namesOneHost({ rawHeaders, httpVersionMinor }: IncomingMessage): boolean {
  const hosts = countHeader(rawHeaders, 'host');
  return hosts === 1 || (hosts === 0 && httpVersionMinor === 0);
}

function matches(template: string, path: string): boolean {
  const [wanted, given] = [template.split('/'), path.split('/')];
  return (
    wanted.length === given.length &&
    wanted.every((part, i) => (part.startsWith(':') ? given[i] !== '' : part === given[i]))
  );
}
