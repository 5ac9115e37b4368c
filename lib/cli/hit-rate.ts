import { hitRateOf } from '../admin/hit-rate';
import { percent } from '../admin/readable';
import { NAMES } from '../observability/metrics';
import { withoutPassword } from './output';
import { askPrometheus } from './prometheus';

/** What is asked. */
export interface PrometheusOptions {
  readonly prometheusUrl?: string;
  /** The application, by the label that Prometheus gives it; all of them without it. */
  readonly prometheusJob?: string;
}

/** Requests of the last hour, of all processes. */
export interface LastHour {
  readonly redisHits: number;
  readonly postgresHits: number;
  /** Whose; undefined for all applications in this Prometheus. */
  readonly job: string | undefined;
  /** Handlers that ran under a new claim. */
  readonly firstRequests: number;
  /** Hits in all of these, from 0 to 1; undefined if there was no request. */
  readonly hitRate: number | undefined;
}

/** Counts, or why there are none. */
export type KnownHour = LastHour | { readonly unknown: string };

interface VectorAnswer {
  readonly data?: { readonly result?: readonly { readonly value?: readonly [number, string] }[] };
}

/** The command serves no request, so Prometheus alone can tell. */
export async function lastHour({ prometheusUrl, prometheusJob: job }: PrometheusOptions): Promise<KnownHour> {
  if (!prometheusUrl) return { unknown: 'not known here: set PROMETHEUS_URL' };
  // Strings of PromQL have the escapes of JSON.
  const selector = job === undefined ? '' : `{job=${JSON.stringify(job)}}`;
  const increase = async (metric: string): Promise<number | undefined> => {
    const query = new URLSearchParams({ query: `sum(increase(${metric}${selector}[1h]))` });
    const answer = (await askPrometheus(prometheusUrl, `api/v1/query?${query.toString()}`)) as VectorAnswer;
    const value = Number(answer.data?.result?.[0]?.value?.[1]);
    return Number.isFinite(value) ? value : undefined;
  };
  try {
    const counts = await Promise.all([NAMES.redisHits, NAMES.dbHits, NAMES.misses].map(increase));
    // An application with Redis alone, or with Postgres alone, has one of the two series of hits.
    if (counts.every((count) => count === undefined))
      return { unknown: `not known: Prometheus has no metrics of this module${ofJob(job)} in the last hour` };
    const [redisHits = 0, postgresHits = 0, firstRequests = 0] = counts;
    const hitRate = hitRateOf(redisHits + postgresHits, firstRequests);
    return { job, redisHits, postgresHits, firstRequests, hitRate };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { unknown: `not known: Prometheus cannot be asked: ${withoutPassword(reason)}` };
  }
}

/** For people. */
export function hitRateText(hour: KnownHour): string {
  if ('unknown' in hour) return hour.unknown;
  const { job, hitRate, redisHits, postgresHits, firstRequests } = hour;
  if (hitRate === undefined) return `no requests${ofJob(job)} in the last hour`;
  const [redis, postgres, first] = [redisHits, postgresHits, firstRequests].map(Math.round);
  const whose = job === undefined ? 'all applications in this Prometheus' : `the job ${JSON.stringify(job)}`;
  return `${percent(hitRate)} in the last hour (${redis} from Redis, ${postgres} from Postgres, ${first} first requests; ${whose})`;
}

function ofJob(job: string | undefined): string {
  return job === undefined ? '' : ` for the job ${JSON.stringify(job)}`;
}
