import {
  StreamableFile,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { INTERCEPTORS_METADATA } from '@nestjs/common/constants';
import { Observable } from 'rxjs';
import { Stream } from 'node:stream';
import type { Handler } from './route-options';

const watches = new WeakMap<object, HandlerWatch>();

/**
 * Follows one request's handler, whatever the interceptors around it do: one that answers 408 in the handler's place
 * does not end the handler.
 */
export class HandlerWatch {
  /** Whether the handler has begun and not ended. */
  running = false;
  /** Whether nobody listens to the handler any more, so that what it answers is lost. */
  abandoned = false;
  /** Resolves when the handler has ended; true if it did not throw. */
  readonly succeeded: Promise<boolean>;
  private resolve!: (succeeded: boolean) => void;

  constructor(request: object) {
    this.succeeded = new Promise((resolve) => (this.resolve = resolve));
    watches.set(request, this);
  }

  end(succeeded: boolean): void {
    this.running = false;
    this.resolve(succeeded);
  }
}

/**
 * The innermost interceptor of a protected route: around it are all others, in it are pipes and handler. Who no longer
 * listens to the handler does not end it either.
 */
const innermost: NestInterceptor = {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const watch = watches.get(context.switchToHttp().getRequest<object>());
    if (!watch) return next.handle();
    return new Observable((subscriber) => {
      let answered = false;
      watch.running = true;
      const handler = next.handle().subscribe({
        next: (value) => {
          answered = true;
          if (subscriber.closed) discard(value);
          else subscriber.next(value);
        },
        error: (error: unknown) => {
          watch.end(false);
          subscriber.error(error);
        },
        complete: () => {
          watch.end(true);
          subscriber.complete();
        },
      });
      return () => {
        if (!watch.running) return;
        watch.abandoned = !answered;
        if (watch.abandoned) return;
        // It has given what was wanted of it, and may never complete by itself.
        handler.unsubscribe();
        watch.end(true);
      };
    });
  },
};

/** Puts the watch closest to this handler. Metadata belongs to the process, so it may be there already. */
export function watchHandler(handler: Handler): void {
  const interceptors = (Reflect.getMetadata(INTERCEPTORS_METADATA, handler) ?? []) as readonly unknown[];
  if (!interceptors.includes(innermost))
    Reflect.defineMetadata(INTERCEPTORS_METADATA, [...interceptors, innermost], handler);
}

/** A stream that nobody will read holds what it reads from, such as an open file. */
function discard(value: unknown): void {
  const stream: unknown = value instanceof StreamableFile ? value.getStream() : value;
  if (stream instanceof Stream.Readable) stream.destroy();
}
