type Unit = 'ms' | 's' | 'sec' | 'm' | 'min' | 'h' | 'hr' | 'd' | 'w' | 'y';
type LongUnit = 'millisecond' | 'second' | 'minute' | 'hour' | 'day' | 'week' | 'year';

/**
 * Milliseconds, or a string such as `'250ms'`, `'30s'`, `'24h'`, `'30d'` or `'2 days'`. Text from the environment is
 * any string to TypeScript: use `Number()`, or assert it with `as Duration`. It is checked at start.
 */
export type Duration =
  | number
  | `${number}`
  | `${number}${Unit}`
  | `${number} ${Unit}`
  | `${number} ${LongUnit}`
  | `${number} ${LongUnit}s`;
