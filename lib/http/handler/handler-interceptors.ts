import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { INTERCEPTORS_METADATA } from '@nestjs/common/constants';
import { Observable } from 'rxjs';
import { requestOf, type Handler } from '../platform';
import { startsOf } from './handler-start';
import { leaveUnwatched, watchOf, type HandlerWatch } from './handler-watch';
import { discard } from './streamed-answer';
import { assertSeen } from './unprotected';

/**
 * The innermost interceptor of a protected route: around it are all others, in it are pipes and handler.
 */
const innermost: NestInterceptor = {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = requestOf(context);
    const watch = watchOf(request);
    if (watch) return watched(context, next, watch);
    assertSeen(context, request);
    if (startsOf(context.getHandler())) leaveUnwatched(request);
    return next.handle();
  },
};

/** Pipes and handler, watched. Who no longer listens to them does not end them either. */
export function watched(
  context: ExecutionContext,
  next: CallHandler,
  watch: HandlerWatch,
): Observable<unknown> {
  return new Observable((subscriber) => {
    let answered = false;
    let over = false;
    const end = (succeeded: boolean): void => {
      over = true;
      watch.end(succeeded);
    };
    watch.begin(startsOf(context.getHandler()));
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
}

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

/** Whether no interceptor of its class or of the handler itself stands around the watch of this handler. */
export function isWatchedAlone(type: object, handler: Handler): boolean {
  return interceptorsOf(type).length === 0 && interceptorsOf(handler).every((each) => each === innermost);
}

/** Stands on a decorated class, for its handlers that are not watched. */
const moduleDemand: NestInterceptor = {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = requestOf(context);
    if (!watchOf(request)) assertSeen(context, request);
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
