import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';

const EVENTS = ['claimed', 'replayed', 'refused'] as const;
type Event = (typeof EVENTS)[number];

/** Milliseconds, and keys, after which the counts begin anew; what was counted before is kept for as long again. */
const LONGEST = 5 * 60_000;
const MOST_KEYS = 5_000;

/** What a key's requests came to. */
export interface KeyCounts extends Readonly<Record<Event, number>> {
  readonly hash: string;
  readonly route: string | undefined;
  readonly total: number;
}

interface Generation {
  readonly since: number;
  readonly keys: Map<string, { -readonly [name in keyof KeyCounts]: KeyCounts[name] }>;
}

/** Counts the requests of this process by key, from the events that it publishes. */
@Injectable()
export class HotKeys implements OnApplicationBootstrap, OnApplicationShutdown {
  private newest = generation();
  private older: Generation | undefined;
  private readonly listeners = EVENTS.map(
    (event) =>
      [`nestjs-idempotency:${event}`, (message: unknown) => this.count(event, message as Told)] as const,
  );

  onApplicationBootstrap(): void {
    for (const [name, listener] of this.listeners) subscribe(name, listener);
  }

  onApplicationShutdown(): void {
    for (const [name, listener] of this.listeners) unsubscribe(name, listener);
  }

  /** Those that came more than once, the hottest first. */
  hottest(most: number): { readonly since: Date; readonly keys: readonly KeyCounts[] } {
    const all = new Map<string, KeyCounts>(this.older?.keys);
    for (const [hash, counts] of this.newest.keys) all.set(hash, sum(counts, all.get(hash)));
    const keys = [...all.values()]
      .filter(({ total }) => total > 1)
      .sort((one, other) => other.total - one.total);
    return { since: new Date((this.older ?? this.newest).since), keys: keys.slice(0, most) };
  }

  private count(event: Event, { hash, route }: Told): void {
    if (hash === undefined) return;
    this.renew();
    const { keys } = this.newest;
    let counts = keys.get(hash);
    if (!counts) keys.set(hash, (counts = { hash, route, claimed: 0, replayed: 0, refused: 0, total: 0 }));
    counts[event] += 1;
    counts.total += 1;
  }

  private renew(): void {
    if (this.newest.keys.size < MOST_KEYS && Date.now() - this.newest.since < LONGEST) return;
    this.older = this.newest;
    this.newest = generation();
  }
}

/** What the board reads of an event. */
interface Told {
  readonly hash?: string;
  readonly route?: string;
}

function generation(): Generation {
  return { since: Date.now(), keys: new Map() };
}

function sum(counts: KeyCounts, before: KeyCounts | undefined): KeyCounts {
  if (!before) return counts;
  const events = Object.fromEntries(EVENTS.map((event) => [event, counts[event] + before[event]]));
  return { ...counts, ...(events as Record<Event, number>), total: counts.total + before.total };
}
