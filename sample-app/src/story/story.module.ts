import { Module, type DynamicModule } from '@nestjs/common';
import { IdempotencyHealth } from 'nestjs-idempotency';
import { IdempotencyBoardModule } from 'nestjs-idempotency/board';
import { AppModule } from '../app.module';
import type { OpenStores } from '../stores';
import { boardAccess } from './board-access';
import { PageController } from './page.controller';
import { StoryController } from './story.controller';
import { StoryServers } from './story-servers';

/** The application, a page that plays with it, and the board. A service of yours has no such page. */
@Module({})
export class StoryModule {
  static with(stores: OpenStores): DynamicModule {
    return {
      module: StoryModule,
      imports: [
        AppModule.with(stores),
        IdempotencyBoardModule.forRoot({
          path: 'idempotency',
          access: boardAccess,
          actor: () => 'sample',
        }),
      ],
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
