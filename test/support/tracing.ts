import type { IncomingMessage, ServerResponse } from 'node:http';
import { context, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { BasicTracerProvider, type SpanProcessor } from '@opentelemetry/sdk-trace-base';

/** Traces this process from now on, as an SDK does that is started before the application. */
export function startTracing(spanProcessors: SpanProcessor[] = []): BasicTracerProvider {
  const provider = new BasicTracerProvider({ spanProcessors });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(provider);
  return provider;
}

export function stopTracing(): void {
  trace.disable();
  context.disable();
}

/** Middleware that makes a span for each request, as the instrumentation of HTTP does. */
export function traceRequests(): (
  request: IncomingMessage,
  response: ServerResponse,
  next: () => void,
) => void {
  const tracer = startTracing().getTracer('application');
  return (_, response, next) => {
    const span = tracer.startSpan('request');
    response.once('close', () => span.end());
    context.with(trace.setSpan(context.active(), span), next);
  };
}
