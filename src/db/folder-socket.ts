import { open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import { join } from 'node:path';
import type { Life } from './folder-owner.js';

/** A unix socket in a folder, served as long as its process lives: a sign of life that is seen from other containers, where a process id is not. */
export interface LifeSocket {
  /** Ends it and removes its file. */
  close(): Promise<void>;
}

/** Serves a socket of that name; `undefined` where such a socket is not to be had. */
export async function serveLife(dir: string, name: string): Promise<LifeSocket | undefined> {
  const folder = await open(dir);
  const server = await listen(short(folder, name));
  if (typeof server === 'string') {
    await folder.close();
    return undefined;
  }
  return {
    async close() {
      await rm(join(dir, name), { force: true });
      server.close();
      await folder.close();
    },
  };
}

/** Whether the socket of that name is served. It outlives its process, but then refuses connections; that of a stopped process still accepts them. */
export async function probeLife(dir: string, name: string): Promise<Life> {
  const folder = await open(dir);
  try {
    return await new Promise((resolve) => {
      const peer = connect({ path: short(folder, name) });
      peer.once('connect', () => {
        peer.destroy();
        resolve('alive');
      });
      peer.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'ECONNREFUSED' ? 'dead' : 'unknown'));
    });
  } finally {
    await folder.close();
  }
}

/** Serves a socket without a file, which the kernel frees with the process; `taken` if another process of this network namespace has it. */
export async function serveAbstract(name: string): Promise<Server | 'taken' | undefined> {
  const server = await listen(`\0${name}`);
  if (server === 'EADDRINUSE') return 'taken';
  return typeof server === 'string' ? undefined : server;
}

/** The path of a socket has room for 107 bytes and is cut there without a word, which would make it that of another socket. */
function short(folder: FileHandle, name: string): string {
  return `/proc/self/fd/${folder.fd}/${name}`;
}

function listen(path: string): Promise<Server | string> {
  const server = createServer((peer) => peer.destroy());
  return new Promise((resolve) => {
    server.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code ?? 'unknown'));
    server.listen({ path }, () => resolve(server.unref()));
  });
}
