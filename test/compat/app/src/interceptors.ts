import {
  Injectable,
  Scope,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
  type Provider,
} from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { randomUUID } from 'node:crypto';

/** Signs what a handler answers; a second execution would be signed otherwise. */
@Injectable()
export class SigningInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): ReturnType<CallHandler['handle']> {
    const reply = context.switchToHttp().getResponse<{ header(name: string, value: string): unknown }>();
    reply.header('X-Signature', randomUUID());
    return next.handle();
  }
}

/** INTERCEPTOR: how the application has it for all its routes. @default not at all */
export const INTERCEPTOR = process.env.INTERCEPTOR ?? '';

export const interceptors: Provider[] =
  INTERCEPTOR === 'APP_INTERCEPTOR'
    ? [{ provide: APP_INTERCEPTOR, useClass: SigningInterceptor }]
    : INTERCEPTOR === 'request-scoped APP_INTERCEPTOR'
      ? [{ provide: APP_INTERCEPTOR, useClass: SigningInterceptor, scope: Scope.REQUEST }]
      : [];
