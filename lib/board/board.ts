import type { IdempotencyAdmin } from '../admin/idempotency-admin';
import type { HealthReport, IdempotencyHealth } from '../observability/health';
import { SafeLogger } from '../observability/safe-logger';
import type { Visit } from './access.guard';
import type { BoardOptions } from './board.options';
import { actorOf, change, isAction, type Action } from './changes';
import { link, notice } from './elements';
import { explained } from './explained';
import { proofOf } from './form-token';
import type { HotKeys } from './hot-keys';
import { hotKeys } from './keys';
import type { Markup } from './markup';
import { overview, POSTGRES_DOWN } from './overview';
import { page, type View } from './page';
import type { ProcessCounts } from './process-counts';
import { record, type ChangeForms } from './record';
import { orphans, records } from './records';
import { shownOf } from './redaction';

/** A page, or where the browser goes next. */
export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly location?: string;
}

const DONE: Readonly<Record<Action | 'nothing', string>> = {
  resolve: 'Resolved: retries get this response.',
  retry: 'The key is released: the next request runs the handler.',
  forget: 'The record is forgotten: the next request runs the handler.',
  nothing:
    'Nothing was changed: it has an outcome, which Redis still had or another operator gave, its owner is alive, or it ' +
    'has expired.',
};

const PERHAPS = 'Whether the change was made is unknown: look at the record again.';

/** Answers each request to the board with a page, also where stores or options fail. */
export class Board {
  private readonly logger = new SafeLogger('Idempotency');

  constructor(
    private readonly admin: IdempotencyAdmin,
    private readonly health: IdempotencyHealth,
    private readonly counts: ProcessCounts,
    private readonly hotKeys: HotKeys,
    private readonly options: BoardOptions,
  ) {}

  /** @param token of the forms; undefined for a reader who may change nothing */
  async look(query: URLSearchParams, token: string | undefined): Promise<Answer> {
    const name = query.get('view') ?? 'overview';
    const health = await this.health.check();
    const view = await this.safely(() => this.view(name, query, health, token ? { token } : undefined));
    return answer(view, name === 'record' ? 'records' : name, health);
  }

  async change(query: URLSearchParams, form: URLSearchParams, visit: Visit, token: string): Promise<Answer> {
    const [hash, action] = [query.get('hash') ?? '', form.get('action')];
    const view = await this.safely(async () => {
      if (!isAction(action)) return message('Nothing was changed', 'The form has no action.', 400);
      try {
        const by = await actorOf(visit, this.options);
        const done = (await change(this.admin, action, hash, form, by)) ? action : 'nothing';
        const isThere = action === 'resolve' || done === 'nothing';
        const [name, about] = isThere ? ['record', { hash }] : ['orphans', {}];
        return link(name, { ...about, done, proof: proofOf(token, done, isThere ? hash : '') });
      } catch (error) {
        const told = explained(error);
        if (told?.status === 503) return message('Not available', `${told.text}. ${PERHAPS}`, 503);
        if (told?.status !== 400) throw error;
        const refused = await this.record(hash, { token, typed: form }, notice(told.text, 'alert'));
        return { ...refused, status: 400 };
      }
    });
    if (typeof view === 'string') return { status: 303, body: '', location: view };
    return answer(view, 'records', await this.health.check());
  }

  private async view(
    name: string,
    query: URLSearchParams,
    health: HealthReport,
    forms: ChangeForms | undefined,
  ): Promise<View> {
    if (name === 'overview') return overview(this.admin, this.counts, health);
    if (name === 'keys') return hotKeys(this.hotKeys);
    // Otherwise each look would wait until Postgres' time is over.
    if (health.postgres === 'down') return message('Postgres does not answer', POSTGRES_DOWN, 503);
    const told = toldIn(query, forms);
    switch (name) {
      case 'records':
        return records(this.admin, query);
      case 'orphans':
        return orphans(this.admin, query, told);
      case 'record':
        return this.record(query.get('hash') ?? '', forms, told);
      default:
        return message('Not found', 'The board has no such page.', 404);
    }
  }

  private async record(hash: string, forms: ChangeForms | undefined, told?: Markup): Promise<View> {
    const details = /^[0-9a-f]{64}$/.test(hash) ? await this.admin.show(hash) : undefined;
    if (details) return record(await shownOf(details, this.options), forms, told);
    return message('Not found', 'There is no such record: it has expired, was forgotten, or never was.', 404);
  }

  private async safely<T>(view: () => Promise<T>): Promise<T | View> {
    try {
      return await view();
    } catch (error) {
      const told = explained(error);
      if (told) return message('Not available', told.text, told.status);
      this.logger.error('The board failed', error);
      return message('The board failed', 'The log of the application says why.', 500);
    }
  }
}

/** What the change before has done; undefined where none was made for this browser. */
function toldIn(query: URLSearchParams, forms: ChangeForms | undefined): Markup | undefined {
  const [done, hash] = [query.get('done') ?? '', query.get('hash') ?? ''];
  if (!forms || !Object.hasOwn(DONE, done) || query.get('proof') !== proofOf(forms.token, done, hash))
    return undefined;
  return notice(DONE[done as keyof typeof DONE]);
}

/** A request that the board turns down before it looks at anything. */
export function refusal(title: string, text: string, status: number): Answer {
  return answer(message(title, text, status), '', undefined);
}

function message(title: string, text: string, status: number): View {
  return { title, content: notice(text, 'alert'), status };
}

function answer(view: View, current: string, health: HealthReport | undefined): Answer {
  return { status: view.status ?? 200, body: page(view, current, health) };
}
