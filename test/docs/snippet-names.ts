/*
 * What the documentation's snippets use without an import of their own: so they can show what matters. The test of the
 * snippets imports from here what a snippet names and does not declare.
 */

export {
  Body,
  Controller,
  Injectable,
  Module,
  Post,
  UseGuards,
  type CanActivate,
  type INestApplication,
} from '@nestjs/common';
export { NestFactory } from '@nestjs/core';
export { RedisModule } from '@nestjs-modules/ioredis';
export { Test } from '@nestjs/testing';
export { InjectRepository, TypeOrmModule } from '@nestjs/typeorm';
export { DataSource, Repository } from 'typeorm';
export { IdempotencyModule, IdempotencyService, Idempotent, httpScope } from 'nestjs-idempotency';
import type { CanActivate, INestApplication } from '@nestjs/common';
import type { IdempotencyService, IdempotencyStore } from 'nestjs-idempotency';
import type { DataSource, Repository } from 'typeorm';

/** Of `@nestjs/config`, which this package does not need. */
export declare class ConfigModule {
  readonly providers: readonly unknown[];
}
export declare class ConfigService {
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- as the real one
  getOrThrow<T>(name: string): T;
}
export declare class ClientsModule {
  readonly providers: readonly unknown[];
}
export declare class AppModule {
  readonly imports: readonly unknown[];
}
export declare class StoresModule {
  readonly imports: readonly unknown[];
}
export declare class LeadsModule {
  readonly controllers: readonly unknown[];
}
export declare class Payment {
  id: number;
  amount: number;
}
export declare class CreatePayment {
  amount: number;
}
export declare class Charge {
  id: string;
}
export declare class CreateCharge {
  amount: number;
}
export declare class Tag {
  name: string;
}
export declare class Receipt {
  number: string;
}
export declare class GithubEvent {
  action: string;
}
export declare class StripeEvent {
  id: string;
}
export declare class GithubSignatureGuard implements CanActivate {
  canActivate(): boolean;
}
export interface AuthenticatedRequest {
  readonly tenant: { readonly id: string };
  readonly user: { readonly id: number };
}
export interface SendgridEvent {
  readonly sg_event_id: string;
}

export declare class LeadsService {
  handle(event: GithubEvent): Promise<void>;
}
export declare class Billing {
  charge(id: string): Promise<Receipt>;
  handle(event: StripeEvent): Promise<void>;
}

/** What `this` has where a snippet shows a method alone. */
export declare class Members {
  protected readonly payments: Repository<Payment>;
  protected readonly tags: Repository<Tag>;
  protected readonly dataSource: DataSource;
  protected readonly idempotency: IdempotencyService;
  protected readonly billing: Billing;
  protected readonly provider: {
    charge(charge: CreateCharge, options: { readonly idempotencyKey: string }): Promise<Charge>;
  };
  protected readonly mail: { handle(event: SendgridEvent): Promise<void> };
  protected readonly statistics: { recalculateSoon(): Promise<void> };
}

export declare const app: INestApplication;
export declare const events: readonly SendgridEvent[];
export declare const leads: { count(): Promise<number> };
export declare const mailer: { readonly sent: readonly unknown[] };
export declare const name: string;
export declare const statements: IdempotencyStore;
export declare function isUniqueViolation(error: unknown): boolean;
export declare function open(options: {
  readonly retention: number;
}): Promise<IdempotencyStore & { close(): Promise<void> }>;
