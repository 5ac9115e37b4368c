/**
 * A record as every statement returns it. What remains of its times is computed here, by Postgres' clock, so that
 * no other clock matters. The body comes as base64: a third less than the default form, and not subject to
 * `bytea_output`.
 */
export const RECORD = `
  state, fence, attempt, token,
  encode(fingerprint, 'hex') AS fingerprint,
  expires_at <= now() AS expired,
  extract(epoch FROM lease_until - now())::float8 * 1000 AS lease_remaining,
  extract(epoch FROM expires_at - now())::float8 * 1000 AS expires_in,
  status, tombstone, headers::text AS headers, encode(body, 'base64') AS body,
  current_setting('synchronous_standby_names') <> '' AND NOT pg_is_in_recovery() AS awaits_standby`;

/** As many columns. */
export const NO_RECORD = Array<string>(13).fill('NULL').join(', ');

/** Recorded bodies above this size are left to statements for one key, so that no reply to a batch is huge. */
export const BATCHED_BODY = 8_192;

/** The record of a key, also if it has expired. Parameters: id. */
export const read = (table: string): string => `
  SELECT ${RECORD} FROM ${table} WHERE id = $1::bytea`;

/**
 * {@link read} for many keys. A row with a large body is left to that one, so that no reply is huge.
 *
 * Parameters: ids.
 */
export const readMany = (table: string): string => `
  SELECT encode(id, 'hex') AS id, ${RECORD} FROM ${table}
  WHERE id = ANY ($1::bytea[]) AND coalesce(octet_length(body), 0) <= ${BATCHED_BODY}`;
