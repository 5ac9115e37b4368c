import { request } from 'node:http';
import { performance } from 'node:perf_hooks';
import { apiToken } from '../api-token.guard';
import type { WebhookDto } from './webhook.dto';

/** Longer than a request waits for another one of its key (10 s). */
const TIMEOUT = 20_000;

/** What came back: an answer with its headers as they were sent, or why there was none. */
export type Delivery =
  | {
      readonly status: number;
      readonly reason: string;
      readonly headers: readonly (readonly [name: string, value: string])[];
      readonly body: string;
      readonly milliseconds: number;
    }
  | { readonly failure: string };

/** Sends a webhook over HTTP, as LeadOS would: each time on a new connection. */
export function deliver(base: string, { key, user_id, name }: WebhookDto): Promise<Delivery> {
  const startedAt = performance.now();
  return new Promise((resolve) => {
    const fail = (error: Error): void => resolve({ failure: error.message });
    const sent = request(
      `${base}/api/webhooks/leados`,
      {
        method: 'POST',
        agent: false,
        signal: AbortSignal.timeout(TIMEOUT),
        headers: {
          Authorization: `Bearer ${apiToken()}`,
          'Content-Type': 'application/json',
          'X-Idempotency-Key': key,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', fail);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            reason: response.statusMessage ?? '',
            headers: pairs(response.rawHeaders),
            body: Buffer.concat(chunks).toString(),
            milliseconds: Math.round(performance.now() - startedAt),
          }),
        );
      },
    );
    sent.on('error', fail);
    sent.end(JSON.stringify({ user_id, name }));
  });
}

function pairs(rawHeaders: readonly string[]): [string, string][] {
  return rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [[name, rawHeaders[i + 1] ?? '']] : []));
}
