import { performance } from 'node:perf_hooks';
import { InFlightMarkers } from '../../lib/store/in-flight-markers';
import { forgetDeadlines } from '../support/forget-deadlines';

/** Time passes, and no timer is looked at meanwhile. */
function busy(ms: number): void {
  jest.setSystemTime(Date.now() + ms);
}

describe('the hint that a request is in flight', () => {
  let hints: InFlightMarkers;
  let written: number[];
  beforeEach(() => {
    jest.useFakeTimers();
    jest.spyOn(performance, 'now').mockImplementation(() => Date.now());
    forgetDeadlines();
    hints = new InFlightMarkers();
    written = [];
  });
  afterEach(() => {
    jest.restoreAllMocks();
    jest.useRealTimers();
  });
  const later = (lease: number): void =>
    hints.schedule('token', lease, (remaining) => written.push(remaining));

  it('gives what remains of the lease when it is written, however late that is', () => {
    later(10_000);
    busy(300);
    jest.advanceTimersByTime(100);
    expect(written).toHaveLength(1);
    expect(written[0]).toBeLessThanOrEqual(9_700);
  });

  it('is not written once the lease is over: another claim may have been recorded', () => {
    later(200);
    busy(250);
    jest.advanceTimersByTime(10_000);
    expect(written).toEqual([]);
  });

  it('is dropped with its claim, also where it was put off twice', () => {
    later(10_000);
    later(10_000);
    hints.drop('token');
    jest.advanceTimersByTime(20_000);
    expect(written).toEqual([]);
  });

  it('is dropped with all others when the application ends', () => {
    later(10_000);
    hints.dropAll();
    jest.advanceTimersByTime(20_000);
    expect(written).toEqual([]);
  });
});
