import {
  StreamableFile,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { INTERCEPTORS_METADATA } from '@nestjs/common/constants';
import { Observable } from 'rxjs';
import { Stream } from 'node:stream';
import { expectStart, startsOf, type Starts } from './handler-start';
import type { Handler } from '../platform';
import { assertSeen } from './unprotected';

const watches = new WeakMap<object, HandlerWatch>();

/**
 * Follows one request's handler, as the interceptors around it do not: one that answers 408 in the handler's place
 * does not end the handler, and one that retries runs it more than once.
 */
export class HandlerWatch {
  /** Whether no interceptor listens to the handler any more, so that its answer is lost. */
  abandoned = false;
  /** Whether it was ended after it had given a value: it has done something, and it is unknown how much. */
  cutShort = false;
  private runs = 0;
  private started = false;
  private starts: Starts | undefined;
  private unknownBefore = 0;
  private anySucceeded = false;
  private whenIdle: (() => void) | undefined;

  constructor(request: object) {
    watches.set(request, this);
  }

  get running(): boolean {
    return this.runs > 0;
  }

  /** Whether the handler itself may have begun. Until then only interceptors and pipes have run. */
  get began(): boolean {
    // A call for another request than those that are known may have been for this one.
    return this.started || (this.starts !== undefined && this.starts.unknown > this.unknownBefore);
  }

  /** @param starts undefined if it is not seen when the handler begins: it is taken to begin at once */
  begin(request: object, starts: Starts | undefined): void {
    this.runs += 1;
    if (!starts) this.started = true;
    if (!starts || this.starts) return;
    this.starts = starts;
    this.unknownBefore = starts.unknown;
    expectStart(request, () => (this.started = true));
  }

  end(succeeded: boolean): void {
    this.runs -= 1;
    this.anySucceeded ||= succeeded;
    if (!this.running) this.whenIdle?.();
  }

  /** Resolves when the handler does not run any more; true if it ended once without throwing. */
  async succeeded(): Promise<boolean> {
    if (this.running) await new Promise<void>((resolve) => (this.whenIdle = resolve));
    return this.anySucceeded;
  }
}

/**
 * The innermost interceptor of a protected route: around it are all others, in it are pipes and handler. Who no longer
 * listens to the handler does not end it either.
 */
const innermost: NestInterceptor = {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = context.switchToHttp().getRequest<object>();
    const watch = watches.get(request);
    const starts = startsOf(context.getHandler());
    if (!watch) {
      assertSeen(context, request);
      if (starts) expectStart(request);
      return next.handle();
    }
    return new Observable((subscriber) => {
      let answered = false;
      let over = false;
      const end = (succeeded: boolean): void => {
        over = true;
        watch.end(succeeded);
      };
      watch.begin(request, starts);
      const handler = next.handle().subscribe({
        next: (value) => {
          answered = true;
          if (subscriber.closed) discard(value);
          else subscriber.next(value);
        },
        error: (error: unknown) => {
          end(false);
          subscriber.error(error);
        },
        complete: () => {
          end(true);
          subscriber.complete();
        },
      });
      const cutShort = (): void => {
        if (over) return;
        handler.unsubscribe();
        watch.cutShort = true;
        end(true);
      };
      return () => {
        watch.abandoned ||= !over && !answered;
        // It has given what was wanted of it. A promise completes with its value; a stream may never do.
        if (answered) queueMicrotask(cutShort);
      };
    });
  },
};

/**
 * Puts the watch closest to this handler. The decorator does so as well, for an application without the module, but
 * cannot know what else will be put there. Metadata belongs to the process, so it may be there already.
 */
export function watchHandler(handler: Handler): void {
  Reflect.defineMetadata(
    INTERCEPTORS_METADATA,
    [...interceptorsOf(handler).filter((each) => each !== innermost), innermost],
    handler,
  );
}

/** Stands on a decorated class, for its handlers that are not watched. */
const moduleDemand: NestInterceptor = {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = context.switchToHttp().getRequest<object>();
    if (!watches.has(request)) assertSeen(context, request);
    return next.handle();
  },
};

/** Has the handlers of this class, and of those that extend it, fail in an application without the module. */
export function demandModule(type: object): void {
  Reflect.defineMetadata(INTERCEPTORS_METADATA, [moduleDemand, ...interceptorsOf(type)], type);
}

/** Once each protected handler of a class is watched, the demand would only cost time. */
export function dropModuleDemand(type: object): void {
  const interceptors = interceptorsOf(type);
  if (interceptors.includes(moduleDemand))
    Reflect.defineMetadata(
      INTERCEPTORS_METADATA,
      interceptors.filter((each) => each !== moduleDemand),
      type,
    );
}

function interceptorsOf(decorated: object): readonly unknown[] {
  return (Reflect.getMetadata(INTERCEPTORS_METADATA, decorated) ?? []) as readonly unknown[];
}

/** A stream that will not be read holds what it reads from, such as an open file. */
function discard(value: unknown): void {
  const stream: unknown = value instanceof StreamableFile ? value.getStream() : value;
  if (stream instanceof Stream.Readable) stream.destroy();
}
