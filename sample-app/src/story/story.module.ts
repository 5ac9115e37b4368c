import { Module, type DynamicModule } from '@nestjs/common';
import { IdempotencyHealth } from 'nestjs-idempotency';
import { AppModule } from '../app.module';
import type { OpenStores } from '../stores';
import { PageController } from './page.controller';
import { StoryController } from './story.controller';
import { StoryServers } from './story-servers';

/** The application, and a page that plays with it. A service of yours has no such thing: it ends at AppModule. */
@Module({})
export class StoryModule {
  static with(stores: OpenStores): DynamicModule {
    return {
      module: StoryModule,
      imports: [AppModule.with(stores)],
      controllers: [PageController, StoryController],
      providers: [
        {
          provide: StoryServers,
          inject: [IdempotencyHealth],
          useFactory: (health: IdempotencyHealth) => new StoryServers(stores, health),
        },
      ],
    };
  }
}
