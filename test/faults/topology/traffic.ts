import { randomUUID } from 'node:crypto';
import { eventually } from '../../support/eventually';
import type { Rig, Send } from '../rig/rig';

const CLIENTS = 6;

/** Clients that each send a fresh key to two processes at once, and again, until they are told to stop. */
export class Traffic {
  private stopped = false;
  private readonly clients: Promise<unknown>;

  constructor(
    private readonly rig: Rig,
    private readonly send: Send = {},
  ) {
    this.clients = Promise.all(Array.from({ length: CLIENTS }, (_, index) => this.client(index)));
  }

  /** Resolves when so many more requests were answered. */
  async goesOn(count = 60): Promise<void> {
    const target = this.rig.sightings.length + count;
    await eventually(() => {
      if (this.rig.sightings.length < target) throw new Error('too little traffic');
    }, 30_000);
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.clients;
  }

  private async client(index: number): Promise<void> {
    const { rig } = this;
    for (let round = index; !this.stopped; round++) {
      const key = randomUUID();
      await Promise.all([
        rig.send(rig.instance(round % 3), key, { ...this.send, takes: 20 }),
        rig.send(rig.instance((round + 1) % 3), key, { ...this.send, takes: 20 }),
      ]);
      await rig.send(rig.instance((round + 2) % 3), key, this.send);
    }
  }
}
