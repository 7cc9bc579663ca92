import type { IncomingMessage, ServerResponse } from 'node:http';
import FindMyWay from 'find-my-way';
import { headerBytesMax } from './request-limits.js';
import type { Route } from './route.js';

export type Params = Readonly<Record<string, string>>;

/** What answers the requests of one route. */
export type Answer = (request: IncomingMessage, response: ServerResponse, params: Params) => void;

export interface RouterOptions {
  readonly routes: readonly Route[];
  readonly answerOf: (route: Route) => Answer;
  readonly onNotFound: (request: IncomingMessage, response: ServerResponse) => void;
  /** The path is not valid percent-encoding. */
  readonly onBadPath: (request: IncomingMessage, response: ServerResponse) => void;
}

const noParams: Params = {};

/** Finds the route of a request. HEAD is answered as GET is; the body is left out where the reply is written. */
export function createRouter({ routes, answerOf, onNotFound, onBadPath }: RouterOptions): Dispatch {
  const router = FindMyWay({
    // An id that is too long to be one is an id that does not exist.
    maxParamLength: headerBytesMax,
    querystringParser: () => null,
    defaultRoute: onNotFound,
    onBadUrl: (_path, request, response) => onBadPath(request, response),
  });
  // Addresses without parameters, as most clients write them.
  const plain = new Map<string, Map<string, Answer>>();
  for (const route of routes) {
    const answer = answerOf(route);
    for (const method of route.method === 'GET' ? (['GET', 'HEAD'] as const) : [route.method]) {
      router.on(method, route.path, (request, response, params) => answer(request, response, params as Params));
      if (route.path.includes(':')) continue;
      const ofMethod = plain.get(method) ?? new Map<string, Answer>();
      plain.set(method, ofMethod.set(route.path, answer));
    }
  }
  return (request, response) => {
    const answer = plain.get(request.method ?? '')?.get(request.url ?? '');
    if (answer === undefined) router.lookup(request, response);
    else answer(request, response, noParams);
  };
}

type Dispatch = (request: IncomingMessage, response: ServerResponse) => void;
