export { IdempotencyBoardModule } from './board.module';
export type {
  BoardAccess,
  BoardOptions,
  BoardPlace,
  IdempotencyBoardModuleAsyncOptions,
  IdempotencyBoardModuleOptions,
} from './board.options';
