import fastifyCompress from '@fastify/compress';
import {
  ClassSerializerInterceptor,
  VersioningType,
  type INestApplication,
  type Provider,
  type Type,
  type VersioningOptions,
} from '@nestjs/common';
import { APP_FILTER, APP_INTERCEPTOR } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import compression from 'compression';
import { createRequire } from 'node:module';
import { startApp, type Platform, type TestApp, type TestAppOptions } from '../../support/app';
import {
  InterceptedAsAWholeController,
  InterceptedController,
  LoggingInterceptor,
  TransformInterceptor,
} from './interceptors';
import { LostLeaseController } from './lost-lease.controller';
import { ResponsesController, TimestampFilter } from './responses.controller';
import { StreamsController } from './streams.controller';
import { ExpressUploadsController, FastifyUploadsController } from './uploads.controllers';
import { RequestScopedController, ValuesController, VersionedController } from './values.controllers';

// It comes without types.
const ejs: unknown = createRequire(__filename)('ejs');

/** An application as the rows of the table need it. */
interface Stage {
  readonly controllers: (platform: Platform) => Type[];
  readonly providers?: Provider[];
  readonly configure?: (app: INestApplication, platform: Platform) => void | Promise<void>;
}

const versioned = (options: VersioningOptions): Stage => ({
  controllers: () => [VersionedController],
  configure: (app) => {
    app.setGlobalPrefix('api');
    app.enableVersioning({ ...options, defaultVersion: '2' });
  },
});

const STAGES = {
  plain: {
    controllers: (platform) => [
      ValuesController,
      RequestScopedController,
      ResponsesController,
      StreamsController,
      InterceptedController,
      InterceptedAsAWholeController,
      LostLeaseController,
      platform === 'express' ? ExpressUploadsController : FastifyUploadsController,
    ],
    configure: (app, platform) => {
      if (platform === 'express') (app as NestExpressApplication).setBaseViewsDir(__dirname);
      else
        (app as NestFastifyApplication).setViewEngine({
          engine: { ejs },
          templates: __dirname,
        });
    },
  },
  'root module': {
    controllers: () => [ValuesController, InterceptedController],
    providers: [ClassSerializerInterceptor, LoggingInterceptor, TransformInterceptor].map((useClass) => ({
      provide: APP_INTERCEPTOR,
      useClass,
    })),
  },
  'filter in the root module': {
    controllers: () => [ResponsesController],
    providers: [{ provide: APP_FILTER, useClass: TimestampFilter }],
  },
  useGlobalInterceptors: {
    controllers: () => [InterceptedController],
    configure: (app) => {
      app.useGlobalInterceptors(new LoggingInterceptor(), new TransformInterceptor());
    },
  },
  compressed: {
    controllers: () => [ValuesController, ResponsesController, StreamsController],
    configure: async (app, platform) => {
      if (platform === 'express') app.use(compression({ threshold: 0 }));
      else await (app as NestFastifyApplication).register(fastifyCompress, { threshold: 0 });
    },
  },
  'version in the URI': versioned({ type: VersioningType.URI }),
  'version in a header': versioned({ type: VersioningType.HEADER, header: 'X-Version' }),
  'version in the media type': versioned({ type: VersioningType.MEDIA_TYPE, key: 'v=' }),
} satisfies Record<string, Stage>;

export type StageName = keyof typeof STAGES;
export const STAGE_NAMES = Object.keys(STAGES) as StageName[];

export function startStage(
  name: StageName,
  platform: Platform,
  rest: Pick<TestAppOptions, 'databaseUrl' | 'redisUrl' | 'inMemory' | 'fastify' | 'options'>,
): Promise<TestApp> {
  const stage: Stage = STAGES[name];
  return startApp({
    ...rest,
    platform,
    controllers: stage.controllers(platform),
    providers: stage.providers,
    settings: { rawBody: true },
    configure: (app) => stage.configure?.(app, platform),
  });
}
