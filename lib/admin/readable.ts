import type { TombstoneReason } from '../core/record';

/** Why a record that is completed has no response to show. */
export const WITHOUT_RESPONSE: Readonly<Record<TombstoneReason, string>> = {
  too_large: 'The handler has finished. Its response was larger than maxBodySize, so it was not kept.',
  unstorable: 'The handler has finished. Its response could not be kept.',
  unreadable:
    'There is a response, but it cannot be read here. It is malformed, or encrypted with a key that is not configured here.',
};

/** Time since then. */
export function age(date: Date, now = Date.now()): string {
  return seconds((now - date.getTime()) / 1000);
}

export function seconds(value: number): string {
  const [size, unit]: readonly [number, string] =
    value >= 172_800 ? [86_400, 'd'] : value >= 7_200 ? [3_600, 'h'] : value >= 120 ? [60, 'min'] : [1, 's'];
  return `${Math.round(value / size)} ${unit}`;
}

export function bytes(value: number): string {
  const [size, unit]: readonly [number, string] =
    value >= 1e9 ? [1e9, 'GB'] : value >= 1e6 ? [1e6, 'MB'] : value >= 1e4 ? [1e3, 'kB'] : [1, 'B'];
  return `${Math.round((10 * value) / size) / 10} ${unit}`;
}

/** @param share from 0 to 1 */
export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
