import { pageQuery } from '../../lib/store/postgres/schema/directory-statements';
import { selectionToPurge } from '../../lib/admin/selection';
import { sql } from './postgres-store';

interface Plan {
  readonly 'Index Name'?: string;
  readonly Plans?: readonly Plan[];
}

/** The indexes by which a list is read, by its condition. */
export async function directoryPlans(url: string): Promise<Record<string, string | undefined>> {
  const selections = {
    page: {},
    caller: selectionToPurge('test', { principal: 'u7' }),
    key: { key: 'key 7' },
    route: selectionToPurge('test', { route: 'POST /other' }),
  };
  const plans: Record<string, string | undefined> = {};
  for (const [name, selection] of Object.entries(selections)) {
    const { text, values } = pageQuery('idempotency_cache', selection, 50);
    const [row] = await sql<{ 'QUERY PLAN': [{ Plan: Plan }] }>(url, `EXPLAIN (FORMAT JSON) ${text}`, values);
    plans[name] = row && indexIn(row['QUERY PLAN'][0].Plan);
  }
  return plans;
}

function indexIn(plan: Plan): string | undefined {
  return plan['Index Name'] ?? plan.Plans?.map(indexIn).find((name) => name !== undefined);
}
