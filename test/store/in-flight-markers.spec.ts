import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { InFlightMarkers } from '../../lib/store/in-flight-markers';
import { eventually } from '../support/eventually';

/** Keeps the process from everything else, its timers among it. */
function busy(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

describe('the hint that a request is in flight', () => {
  let hints: InFlightMarkers;
  let written: number[];
  beforeEach(() => {
    hints = new InFlightMarkers();
    written = [];
  });
  const later = (lease: number): void =>
    hints.schedule('token', lease, (remaining) => written.push(remaining));

  it('gives what remains of the lease when it is written, however late that is', async () => {
    later(10_000);
    busy(300);
    await eventually(() => expect(written).toHaveLength(1));
    expect(written[0]).toBeLessThanOrEqual(9_700);
  });

  it('is not written once the lease is over: another claim may have been recorded', async () => {
    later(200);
    busy(250);
    await delay(100); // nothing has to happen meanwhile
    expect(written).toEqual([]);
  });

  it('is dropped with its claim, also where it was put off twice', async () => {
    later(10_000);
    later(10_000);
    hints.drop('token');
    await delay(100); // nothing has to happen meanwhile
    expect(written).toEqual([]);
  });

  it('is dropped with all others when the application ends', async () => {
    later(10_000);
    hints.dropAll();
    await delay(100); // nothing has to happen meanwhile
    expect(written).toEqual([]);
  });
});
