import type { Client, ClientConfig, Pool } from 'pg';
import { loadNeeded } from '../core/optional-package';
import { cancelStatement } from '../store/postgres/connection/cancel';
import { UsageError } from './exit';

type ConnectionConfig = Pick<
  ClientConfig,
  'connectionString' | 'connectionTimeoutMillis' | 'application_name'
>;

const connectedClients = new Set<Client>();

/**
 * A client that is not connected yet.
 * @throws UsageError if the URL cannot be used: a certificate that it names cannot be read, for example
 */
export function postgresClient(config: ConnectionConfig): Client {
  try {
    return new (clientClass())(config);
  } catch (error) {
    throw new UsageError(`DATABASE_URL cannot be used: ${String(error)}`);
  }
}

/**
 * A pool of such clients.
 * @throws UsageError as above
 */
export function postgresPool(config: ConnectionConfig): Pool {
  postgresClient(config); // a pool makes its clients later
  return new (pg().Pool)({ ...config, Client: clientClass() });
}

/**
 * Asks Postgres to end all that it does for this command: it would go on after the end of the process. The command hears
 * no more of it, as it would report, or go on.
 */
export async function cancelStatements(): Promise<void> {
  for (const client of connectedClients) stopReading(client);
  await Promise.all([...connectedClients].map(cancelStatement));
}

function clientClass(): typeof Client {
  return class extends pg().Client {
    constructor(config?: ClientConfig) {
      super(config);
      this.once('connect', () => connectedClients.add(this));
      this.once('end', () => connectedClients.delete(this));
    }
  };
}

/** Nothing where the client does not show its socket. */
function stopReading(client: Client): void {
  const { connection } = client as { connection?: { stream?: { pause(): void } } };
  connection?.stream?.pause();
}

function pg(): typeof import('pg') {
  return loadNeeded(
    () => require('pg') as typeof import('pg'),
    'The command reaches Postgres with it: run `npm install pg`.',
  );
}
