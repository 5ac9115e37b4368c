import {
  Injectable,
  type BeforeApplicationShutdown,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';

interface Incoming {
  readonly headers: Readonly<Record<string, string | undefined>>;
  user?: { id: string };
}

/** Lets a handler wait for what a check needs to happen meanwhile. */
@Injectable()
export class Arrivals implements BeforeApplicationShutdown {
  private readonly counts = new Map<string, number>();
  private readonly waiting = new Set<() => void>();
  private stopping = false;

  count(key: string): void {
    this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
    this.wake();
  }

  beforeApplicationShutdown(): void {
    this.stopping = true;
    this.wake();
  }

  /** Resolves once so many requests with this key have come. */
  async reach(key: string, count: number): Promise<void> {
    await this.until(() => (this.counts.get(key) ?? 0) >= count);
  }

  /** Resolves once the application has been told to end. */
  async shutdown(): Promise<void> {
    await this.until(() => this.stopping);
  }

  private async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => this.waiting.add(resolve));
  }

  private wake(): void {
    for (const resolve of this.waiting) resolve();
    this.waiting.clear();
  }
}

/** Lets in all callers that say who they are. */
@Injectable()
export class CallerGuard implements CanActivate {
  constructor(private readonly arrivals: Arrivals) {}

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<Incoming>();
    request.user = { id: request.headers.authorization ?? '' };
    this.arrivals.count(request.headers['idempotency-key'] ?? '');
    return request.user.id !== '';
  }
}
