const callbacksOf = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `callback` once `signal` is aborted, at once if it was. Returns its cancellation. However many there are, the signal has one listener:
 * Node warns of more than ten as of a leak, and a signal is often shared by many requests.
 */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal === undefined) return () => {};
  if (signal.aborted) {
    callback();
    return () => {};
  }
  const callbacks = callbacksOf.get(signal) ?? listen(signal);
  // A function of its own, so that one callback may be there twice.
  const call = (): void => callback();
  callbacks.add(call);
  return () => void callbacks.delete(call);
}

function listen(signal: AbortSignal): Set<() => void> {
  const callbacks = new Set<() => void>();
  callbacksOf.set(signal, callbacks);
  signal.addEventListener('abort', () => callbacks.forEach((call) => call()), { once: true });
  return callbacks;
}
