import type { INestApplication } from '@nestjs/common';
import {
  request as httpRequest,
  type IncomingHttpHeaders,
  type RequestOptions,
  type Server,
} from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Server as TlsServer } from 'node:tls';

/** A request as the application's clients send it. */
export interface OnceRequest {
  /** @default 'POST' */
  readonly method?: string;
  /** The whole path, global prefix and version included, with the query. */
  readonly path: string;
  /** Those that a client sends, the key's among them where it is in a header. */
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Text and bytes go as they are, forms and blobs as `fetch` sends them, anything else as JSON. */
  readonly body?: unknown;
}

/** A response as the client got it. */
export interface OnceAnswer {
  readonly status: number;
  /** By their names in lower case. */
  readonly headers: Readonly<IncomingHttpHeaders>;
  readonly text: string;
}

/**
 * Has the application listen while `work` runs, on a free port of this machine if it does not yet. What was only
 * initialised is left so.
 */
export async function whileListening<T>(app: INestApplication, work: () => Promise<T>): Promise<T> {
  await app.init(); // without effect where it is already
  await (app.getHttpAdapter().getInstance() as { readonly ready?: () => Promise<unknown> }).ready?.(); // Fastify
  const server = serverOf(app);
  if (server.listening) return work();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      server.off('error', reject);
      resolve();
    });
  });
  try {
    return await work();
  } finally {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}

/** Sends a request on a separate connection, as another try of a client would be. */
export async function send(
  app: INestApplication,
  { method = 'POST', path, headers = {}, body }: OnceRequest,
): Promise<OnceAnswer> {
  const server = serverOf(app);
  const { bytes, type } = await encoded(body);
  const given = Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const),
  );
  const options = { ...placeOf(server), method, path, agent: false, headers: { ...type, ...given } };
  const request = server instanceof TlsServer ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    // A certificate of a test need not be known.
    const sent = request({ ...options, rejectUnauthorized: false } as RequestOptions, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const { statusCode = 0, headers: received } = response;
        resolve({ status: statusCode, headers: received, text: Buffer.concat(chunks).toString() });
      });
    });
    sent.on('error', reject);
    sent.end(bytes);
  });
}

function serverOf(app: INestApplication): Server {
  return app.getHttpServer() as Server;
}

function placeOf(server: Server): Pick<RequestOptions, 'host' | 'port' | 'socketPath'> {
  const address = server.address();
  if (typeof address === 'string') return { socketPath: address };
  if (!address) throw new TypeError('The application does not listen.');
  const everywhere = address.address === '::' || address.address === '0.0.0.0';
  return { host: everywhere ? 'localhost' : address.address, port: address.port };
}

interface Encoded {
  readonly bytes: string | Uint8Array | undefined;
  readonly type: Readonly<Record<string, string>>;
}

async function encoded(body: unknown): Promise<Encoded> {
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array)
    return { bytes: body, type: {} };
  if (body instanceof URLSearchParams || body instanceof FormData || body instanceof Blob) {
    const form = new Response(body);
    return { bytes: Buffer.from(await form.arrayBuffer()), type: Object.fromEntries(form.headers) };
  }
  return { bytes: JSON.stringify(body), type: { 'content-type': 'application/json' } };
}
