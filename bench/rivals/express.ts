import { makeIdempotent, IdempotencyConfig } from '@aws-lambda-powertools/idempotency';
import { CachePersistenceLayer } from '@aws-lambda-powertools/idempotency/cache';
import { createClient } from '@redis/client';
import express, { type NextFunction, type Request, type Response } from 'express';
import { getSharedIdempotencyService, idempotency } from 'express-idempotency';
import RedisAdapter from 'express-idempotency-redis-adapter';
import type { Context } from 'aws-lambda';
import type { AddressInfo } from 'node:net';
import type { DataSource } from 'typeorm';
import { place, serve, type Order } from '../host';
import { openDataSource } from '../rows';

/** Libraries for Express without Nest, each as its documentation sets it up; MODE=bare: Express alone. */
const { MODE = 'bare', DATABASE_URL = '', REDIS_URL } = process.env;

const app = express();
app.use(express.json());

async function mount(dataSource: DataSource): Promise<void> {
  switch (MODE) {
    case 'bare':
      app.post('/orders', (request, response, next) =>
        answer(response, next, place(request.body as Order, dataSource)),
      );
      return;
    case 'express-idempotency': {
      const dataAdapter = new RedisAdapter({ connectionConfig: { url: REDIS_URL } });
      await dataAdapter.connect();
      app.use(idempotency({ dataAdapter }));
      app.post('/orders', (request: Request, response, next) => {
        if (getSharedIdempotencyService().isHit(request)) return;
        answer(response, next, place(request.body as Order, dataSource));
      });
      return;
    }
    case 'powertools': {
      const client = await createClient({ url: REDIS_URL }).connect();
      const config = new IdempotencyConfig({
        eventKeyJmesPath: 'key',
        throwOnNoIdempotencyKey: true,
      });
      config.registerLambdaContext(CONTEXT);
      const once = makeIdempotent((request: Keyed) => Promise.resolve(place(request.order, dataSource)), {
        persistenceStore: new CachePersistenceLayer({ client }),
        config,
      });
      app.post('/orders', (request, response, next) =>
        answer(
          response,
          next,
          once({ key: request.get('idempotency-key'), order: request.body as Order } as Keyed),
        ),
      );
      return;
    }
    default:
      throw new Error(`no subject ${MODE}`);
  }
}

/** Of Lambda's context it wants to know how much time is left; it warns at every request without. */
const CONTEXT = { getRemainingTimeInMillis: () => 30_000 } as unknown as Context;

interface Keyed {
  readonly key: string;
  readonly order: Order;
}

function answer(response: Response, next: NextFunction, result: unknown): void {
  Promise.resolve(result).then((value) => response.status(201).send(value), next);
}

/** A duplicate in flight is an error to all of them. */
function refuse(error: Error, _request: Request, response: Response, next: NextFunction): void {
  if (response.headersSent) next(error);
  else
    response.status(response.statusCode >= 400 ? response.statusCode : 409).send({ message: error.message });
}

async function main(): Promise<void> {
  await mount(await openDataSource(DATABASE_URL));
  app.use(refuse);
  const server = app.listen(0, '127.0.0.1', () =>
    serve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
  );
}

void main();
