import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { isHttp2 } from './platform';

/** True once nothing can be written any more. */
export function isClosed(response: ServerResponse): boolean {
  if (isHttp2(response)) return response.stream.destroyed;
  return response.closed || response.destroyed || (isQueued(response) && response.req.socket.destroyed);
}

/**
 * Calls the listener once {@link isClosed} holds, at once if it does already.
 * @returns a function that stops listening
 */
export function onceClosed(response: ServerResponse, listener: () => void): () => void {
  if (isClosed(response)) {
    listener();
    return () => undefined;
  }
  if (isHttp2(response) || !isQueued(response)) {
    response.on('close', listener); // comes once, and `once` makes three objects more
    return () => response.removeListener('close', listener);
  }
  const stop = (): void => {
    response.removeListener('close', heard);
    stopWatching();
  };
  const heard = (): void => {
    stop();
    listener();
  };
  response.on('close', heard);
  const stopWatching = onceConnectionCloses(response.req.socket, heard);
  return stop;
}

/** Whether it waits for those before it on its connection (pipelining): Node does not tell it that this is closed. */
function isQueued({ socket, req }: ServerResponse): boolean {
  return socket === null && typeof (req.socket as Partial<Socket> | undefined)?.once === 'function';
}

/** By connection: a client can send any number of requests before it reads, and a listener for each would be too many. */
const closings = new WeakMap<Socket, Set<() => void>>();

function onceConnectionCloses(connection: Socket, listener: () => void): () => void {
  let listeners = closings.get(connection);
  if (!listeners) {
    const all = (listeners = new Set());
    closings.set(connection, all);
    connection.once('close', () => all.forEach((each) => each()));
  }
  listeners.add(listener);
  return () => listeners.delete(listener);
}
