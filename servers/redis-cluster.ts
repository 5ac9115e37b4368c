import { randomInt } from 'node:crypto';
import { Redis } from 'ioredis';
import { startRedis, type RunningRedis } from './redis';
import { retrying } from './retry';

const SLOTS = 16_384;
const NODES = 3;

/** The second port of a node, which has to be free as well, is 10,000 above its first. */
const PORTS = [20_000, 30_000] as const;
const UNLESS_TAKEN = { on: /did not start|already in use/i, attempts: 5, pause: 0 };
const UNTIL_KNOWN = { on: /do not know each other/, attempts: 1_000, pause: 20 };

/**
 * Starts a Redis Cluster of three primaries that share the slots. A node that is restarted is the same one, without
 * its keys.
 * @throws RedisUnavailableError; Error if the nodes do not find each other within 20 s
 */
export async function startRedisCluster(): Promise<RunningRedis[]> {
  const nodes = await Promise.all(Array.from({ length: NODES }, startNode));
  const clients = nodes.map(({ url }) => new Redis(url));
  try {
    // Before any of them meets another: a node that knows others takes no epoch.
    for (const [index, client] of clients.entries()) {
      await client.call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
      await client.cluster('ADDSLOTS', ...slotsOf(index));
    }
    for (const client of clients)
      for (const { port } of nodes) await client.cluster('MEET', '127.0.0.1', port);
    for (const client of clients) await retrying(UNTIL_KNOWN, () => expectWhole(client));
    return nodes;
  } catch (error) {
    await Promise.all(nodes.map((node) => node.stop()));
    throw error;
  } finally {
    for (const client of clients) client.disconnect();
  }
}

/** Moves a slot, key by key as `redis-cli --cluster reshard` does; between `begin` and `finish`, both nodes have part of it. */
export class SlotMigration {
  private constructor(
    private readonly slot: number,
    private readonly source: Redis,
    private readonly target: Redis,
    private readonly others: readonly Redis[],
    private readonly port: number,
  ) {}

  /** From now on the source asks for what it does not have (ASK). */
  static async begin(
    slot: number,
    source: RunningRedis,
    target: RunningRedis,
    nodes: readonly RunningRedis[],
  ): Promise<SlotMigration> {
    const open = ({ url }: RunningRedis): Redis => new Redis(url);
    const others = nodes.filter((node) => node !== source && node !== target).map(open);
    const migration = new SlotMigration(slot, open(source), open(target), others, target.port);
    await migration.target.cluster('SETSLOT', slot, 'IMPORTING', await idOf(migration.source));
    await migration.source.cluster('SETSLOT', slot, 'MIGRATING', await idOf(migration.target));
    return migration;
  }

  /** Moves what the source has now. */
  async moveKeys(): Promise<void> {
    for (;;) {
      const keys = await this.source.cluster('GETKEYSINSLOT', this.slot, 100);
      if (keys.length === 0) return;
      await this.source.migrate('127.0.0.1', this.port, '', 0, 5_000, 'REPLACE', 'KEYS', ...keys);
    }
  }

  /** Moves the rest; from then on the slot is the target's (MOVED). */
  async finish(): Promise<void> {
    await this.moveKeys();
    const owner = await idOf(this.target);
    for (const node of [this.target, this.source, ...this.others]) {
      await node.cluster('SETSLOT', this.slot, 'NODE', owner);
    }
    for (const node of [this.source, this.target, ...this.others]) node.disconnect();
  }
}

function slotsOf(index: number): number[] {
  const share = Math.ceil(SLOTS / NODES);
  return Array.from({ length: share }, (_, offset) => index * share + offset).filter((slot) => slot < SLOTS);
}

async function expectWhole(client: Redis): Promise<void> {
  const info = await client.cluster('INFO');
  if (!info.includes('cluster_state:ok') || !info.includes(`cluster_size:${NODES}`)) {
    throw new Error('The nodes do not know each other yet');
  }
}

function idOf(client: Redis): Promise<string> {
  return client.cluster('MYID');
}

function startNode(): Promise<RunningRedis> {
  return retrying(UNLESS_TAKEN, () =>
    startRedis({
      port: randomInt(...PORTS),
      args: ['--cluster-enabled', 'yes', '--cluster-node-timeout', '15000'],
    }),
  );
}
