import type { DataSource } from 'typeorm';
import { currentFrame, type Frame } from './frames';
import { containedTransaction } from './joined-runner';

type CreateQueryRunner = DataSource['createQueryRunner'];

const hooks = new WeakMap<DataSource, Hook>();

/** Stands where TypeORM asks a DataSource for connections. There is one for each DataSource, for all that need it. */
export class Hook {
  /** Makes one that joins nothing. */
  readonly createQueryRunner: CreateQueryRunner;
  private users = 0;
  private readonly restore: readonly (() => void)[];

  private constructor(private readonly dataSource: DataSource) {
    const { manager } = dataSource;
    this.createQueryRunner = dataSource.createQueryRunner.bind(dataSource);
    this.restore = [
      replaced(dataSource, 'createQueryRunner', (mode) => {
        const frame = this.frame();
        return frame ? frame.transaction.join(frame.level, mode) : this.createQueryRunner(mode);
      }),
      replaced(
        manager,
        'transaction',
        containedTransaction(manager, () => this.frame()),
      ),
    ];
  }

  static on(dataSource: DataSource): Hook {
    let hook = hooks.get(dataSource);
    if (!hook) hooks.set(dataSource, (hook = new Hook(dataSource)));
    hook.users++;
    return hook;
  }

  release(): void {
    if (--this.users > 0) return;
    hooks.delete(this.dataSource);
    for (const restore of this.restore) restore();
  }

  private frame(): Frame | undefined {
    // Another library may have kept our method when it put its own in its place.
    return this.users > 0
      ? currentFrame(({ transaction }) => transaction.dataSource === this.dataSource)
      : undefined;
  }
}

/** @returns what puts the method back that was there, unless another has been put in its place since */
function replaced<T extends object, K extends keyof T>(target: T, name: K, method: T[K]): () => void {
  const before = Object.getOwnPropertyDescriptor(target, name);
  Object.defineProperty(target, name, {
    value: method,
    writable: true,
    configurable: true,
    enumerable: false,
  });
  return () => {
    if (target[name] !== method) return;
    if (before) Object.defineProperty(target, name, before);
    else Reflect.deleteProperty(target, name);
  };
}
