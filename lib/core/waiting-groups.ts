import type { ObservedRequest } from './ports';

/** One request that waits. */
export interface Member {
  readonly request: ObservedRequest;
  readonly bytes: number;
  fail(error: Error): void;
}

/** The waiting requests of one key. */
export class WaitingGroup {
  bytes = 0;
  private readonly members = new Set<Member>();

  constructor(
    readonly hash: string,
    private readonly onChange: (group: WaitingGroup, requests: 1 | -1, bytes: number) => void,
  ) {}

  get size(): number {
    return this.members.size;
  }

  /** The one that came last. */
  get newest(): Member {
    let last: Member | undefined;
    for (const member of this.members) last = member;
    if (!last) throw new RangeError('Nothing waits for this key.');
    return last;
  }

  add(member: Member): void {
    this.members.add(member);
    this.bytes += member.bytes;
    this.onChange(this, 1, member.bytes);
  }

  remove(member: Member): void {
    if (!this.members.delete(member)) return;
    this.bytes -= member.bytes;
    this.onChange(this, -1, -member.bytes);
  }
}

type Measure = 'size' | 'bytes';

/** All that waits in this process, by key. */
export class WaitingGroups {
  requests = 0;
  bytes = 0;
  private readonly groups = new Map<string, WaitingGroup>();
  /** The group with the most, by each measure; undefined if it has become less since, and has to be looked for. */
  private readonly most: Record<Measure, WaitingGroup | undefined> = { size: undefined, bytes: undefined };

  /** @param onChange told of each request that comes (1) or goes (-1), and of its bytes */
  constructor(private readonly onChange: (requests: 1 | -1, bytes: number) => void) {}

  /** One without members is not kept. */
  of(hash: string): WaitingGroup {
    return this.groups.get(hash) ?? new WaitingGroup(hash, this.changed);
  }

  /** @throws RangeError if nothing waits */
  noisiest(measure: Measure): WaitingGroup {
    let most = this.most[measure];
    if (!most)
      for (const group of this.groups.values()) if (!most || group[measure] > most[measure]) most = group;
    if (!most) throw new RangeError('Nothing waits in this process.');
    this.most[measure] = most;
    return most;
  }

  private readonly changed = (group: WaitingGroup, requests: 1 | -1, bytes: number): void => {
    this.requests += requests;
    this.bytes += bytes;
    if (group.size > 0) this.groups.set(group.hash, group);
    else this.groups.delete(group.hash);
    this.compare('size', group, requests);
    this.compare('bytes', group, bytes);
    this.onChange(requests, bytes);
  };

  /** While nothing has become less, the one with the most is known without a look at the others. */
  private compare(measure: Measure, group: WaitingGroup, change: number): void {
    const most = this.most[measure];
    if (change < 0 && group === most) this.most[measure] = undefined;
    else if (change > 0 && (most ? group[measure] >= most[measure] : this.groups.size === 1))
      this.most[measure] = group;
  }
}
