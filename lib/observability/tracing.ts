import type * as OpenTelemetry from '@opentelemetry/api';
import type { Attributes, Span } from '@opentelemetry/api';
import { loadIfInstalled } from '../core/optional-package';
import type { BatchTracing, ObservedRequest, RequestObserver, RequestOutcome } from '../core/ports';
import type { Claim, Tier } from '../core/record';

export interface TracingSettings {
  /** Whether spans have the key, as the client sent it. */
  readonly key: boolean;
}

/** Undefined where traces are switched off, and without `@opentelemetry/api`. */
export function openTracing(settings: TracingSettings | false): Tracing | undefined {
  const api = settings && loadIfInstalled(() => require('@opentelemetry/api') as typeof OpenTelemetry);
  return api ? new Tracing(api, settings) : undefined;
}

/**
 * Puts attributes on the span that a request is in, and makes spans within it for what its stores are asked. A request
 * that is in no span, or in one that is not recorded, costs nothing. What a tracer throws changes no answer.
 */
export class Tracing implements Partial<RequestObserver>, BatchTracing {
  private readonly tracer: OpenTelemetry.Tracer;
  /** Of the operation of each item that is to go in a batch. */
  private readonly operations = new WeakMap<object, Span>();

  constructor(
    private readonly api: typeof OpenTelemetry,
    private readonly settings: TracingSettings,
  ) {
    this.tracer = api.trace.getTracer('nestjs-idempotency');
  }

  claimed(_: ObservedRequest, { attempt }: Claim): void {
    const span = this.current();
    if (span) safely(() => span.setAttribute('idempotency.attempt', attempt));
  }

  ended({ id, waited }: ObservedRequest, outcome: RequestOutcome, tier?: Tier): void {
    const span = this.current();
    if (!span) return;
    const attributes: Attributes = { 'idempotency.outcome': outcome };
    if (outcome === 'replayed') attributes['idempotency.tier'] = tier ?? 'process';
    if (waited) attributes['idempotency.waited_ms'] = Math.round(waited);
    if (id) attributes['idempotency.hash'] = id.hash;
    if (id && this.settings.key) attributes['idempotency.key'] = id.key;
    safely(() => span.setAttributes(attributes));
  }

  /** Whether the caller is in a span that is recorded. */
  get isWithinSpan(): boolean {
    return this.current() !== undefined;
  }

  /** Does the work in a span within the one that the caller is in, if it is in one. */
  within<T>(operation: string, work: () => Promise<T>): Promise<T> {
    const span = this.current() && this.start(operation, {}, () => this.api.context.active());
    if (!span) return work();
    return this.inside(span, work).then(
      (value) => {
        this.end(span);
        return value;
      },
      (error: unknown) => {
        this.end(span, error);
        throw error;
      },
    );
  }

  add(item: object): void {
    const span = this.current();
    if (span) this.operations.set(item, span);
  }

  /** The span of the batch is within that of its first operation. It and those of the others link to each other. */
  begin(operation: string, items: readonly object[]): ((error?: unknown) => void) | undefined {
    const [first, ...others] = items.flatMap((item) => this.operations.get(item) ?? []);
    if (!first) return undefined;
    const attributes = { 'idempotency.operation': operation, 'idempotency.batch.size': items.length };
    const links = others.flatMap((each) => safely(() => ({ context: each.spanContext() })) ?? []);
    const { trace, ROOT_CONTEXT } = this.api;
    const batch = this.start('batch', { attributes, links }, () => trace.setSpan(ROOT_CONTEXT, first));
    if (!batch) return undefined;
    for (const each of others) safely(() => linkTo(each, batch));
    return (error) => this.end(batch, error);
  }

  /** The span that the caller is in; undefined if none is recorded. */
  private current(): Span | undefined {
    return safely(() => {
      const span = this.api.trace.getActiveSpan();
      return span?.isRecording() === true ? span : undefined;
    });
  }

  /** Begins the work once, also where a context manager throws before it or after it. */
  private inside<T>(span: Span, work: () => Promise<T>): Promise<T> {
    const { context, trace } = this.api;
    let begun: Promise<T> | undefined;
    const begin = (): Promise<T> => (begun ??= started(work));
    safely(() => void context.with(trace.setSpan(context.active(), span), begin));
    return begin();
  }

  private start(
    name: string,
    options: OpenTelemetry.SpanOptions,
    parent: () => OpenTelemetry.Context,
  ): Span | undefined {
    return safely(() => this.tracer.startSpan(`idempotency.${name}`, options, parent()));
  }

  private end(span: Span, error?: unknown): void {
    safely(() => {
      if (error !== undefined)
        span.setStatus({
          code: this.api.SpanStatusCode.ERROR,
          message: messageOf(error),
        });
      span.end();
    });
  }
}

/** What it throws is not a failure of a context manager. (An async function would make three promises more.) */
function started<T>(work: () => Promise<T>): Promise<T> {
  try {
    return work();
  } catch (error) {
    return Promise.resolve().then(() => {
      throw error;
    });
  }
}

/** Spans of `@opentelemetry/api` before 1.9 cannot be linked once they have begun. */
function linkTo(span: Partial<Pick<Span, 'addLink'>>, to: Span): void {
  span.addLink?.({ context: to.spanContext() });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Undefined if it throws. There is no place to report that to. */
function safely<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
