import { Agent, request, type IncomingHttpHeaders } from 'node:http';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Names and values as they came over the wire, but for `Date` and the replay marker. */
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  readonly text: string;
}

export interface Call {
  readonly method?: string;
  readonly headers?: Record<string, string | string[]>;
  /** An object goes as JSON, text as it is. */
  readonly body?: unknown;
  readonly signal?: AbortSignal;
  /** One that keeps connections alive, as clients do; otherwise each call has its own. */
  readonly agent?: Agent;
}

const ownConnections = new Agent({ keepAlive: false });
const VARYING = new Set(['date', 'idempotent-replayed']);

/** Sends a request over a socket and reads the whole answer. */
export function call(
  url: string,
  { method = 'POST', headers = {}, body, signal, agent = ownConnections }: Call = {},
): Promise<Answer> {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      {
        method,
        agent,
        signal,
        headers: { ...(text === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const bytes = Buffer.concat(chunks);
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            rawHeaders: response.rawHeaders.filter(
              (_, i, all) => !VARYING.has(all[i - (i % 2)]!.toLowerCase()),
            ),
            body: bytes,
            text: bytes.toString(),
          });
        });
      },
    );
    sent.on('error', reject);
    sent.end(text);
  });
}

/** The answer without what may differ between a first response and its replay. */
export function comparable({ status, rawHeaders, body }: Answer): unknown {
  return { status, rawHeaders, body: body.toString('base64') };
}

export function isReplay(answer: Answer): boolean {
  return answer.headers['idempotent-replayed'] === 'true';
}
