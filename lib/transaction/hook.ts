import type { DataSource } from 'typeorm';
import { currentFrame, type Frame } from './frames';
import { containedTransaction } from './joined-runner';
import { guarded } from './own-work';

type CreateQueryRunner = DataSource['createQueryRunner'];

const hooks = new WeakMap<DataSource, Hook>();

/**
 * Stands where TypeORM asks a DataSource for connections. There is one for each DataSource, and it stays: a handler that
 * is still running when the application closes must not go on outside of its transaction.
 */
export class Hook {
  /** Makes one that joins nothing. */
  readonly createQueryRunner: CreateQueryRunner;

  private constructor(private readonly dataSource: DataSource) {
    const { manager } = dataSource;
    this.createQueryRunner = dataSource.createQueryRunner.bind(dataSource);
    replace(dataSource, 'createQueryRunner', (mode) => {
      const frame = this.frame();
      return frame ? frame.transaction.join(frame.level, mode) : guarded(this.createQueryRunner(mode));
    });
    replace(
      manager,
      'transaction',
      containedTransaction(manager, () => this.frame()),
    );
  }

  static on(dataSource: DataSource): Hook {
    let hook = hooks.get(dataSource);
    if (!hook) hooks.set(dataSource, (hook = new Hook(dataSource)));
    return hook;
  }

  private frame(): Frame | undefined {
    return currentFrame(({ transaction }) => transaction.dataSource === this.dataSource);
  }
}

function replace<T extends object, K extends keyof T>(target: T, name: K, method: T[K]): void {
  Object.defineProperty(target, name, {
    value: method,
    writable: true,
    configurable: true,
    enumerable: false,
  });
}
