import type { Protocol } from '../core/protocol';
import type { IdempotencyStore } from '../core/store';
import type { Transaction, TransactionStore } from '../core/transaction';
import type { Tracing } from './tracing';

/** The protocol, with a span around each request: for work whose caller has no span that is this work's alone. */
export function tracedProtocol(protocol: Protocol, tracing: Tracing): Pick<Protocol, 'run'> {
  return { run: (request, work) => tracing.within('execute', () => protocol.run(request, work)) };
}

/** The store, with a span around each claim and each completion. */
export function tracedStore(store: IdempotencyStore, tracing: Tracing): IdempotencyStore {
  return {
    claim: (request) => tracing.within('claim', () => store.claim(request)),
    complete: (claim, outcome, heldUntil) =>
      tracing.within('complete', () => store.complete(claim, outcome, heldUntil)),
    release: (claim) => store.release(claim),
    renew: (claims, lease) => store.renew(claims, lease),
    find: (id) => store.find(id),
    forget: (claim) => store.forget(claim),
  };
}

/** As {@link tracedStore}: a transaction claims its key as it begins, and is completed by its commit. */
export function tracedTransactions(transactions: TransactionStore, tracing: Tracing): TransactionStore {
  return {
    begin: (request) => {
      if (!tracing.isWithinSpan) return transactions.begin(request);
      return tracing
        .within('claim', () => transactions.begin(request))
        .then((result) =>
          result.kind === 'begun'
            ? { kind: 'begun', transaction: tracedTransaction(result.transaction, tracing) }
            : result,
        );
    },
    look: (id) => transactions.look(id),
    outside: (work) => transactions.outside(work),
  };
}

function tracedTransaction(transaction: Transaction, tracing: Tracing): Transaction {
  return {
    claim: transaction.claim,
    context: transaction.context,
    get aborted() {
      return transaction.aborted;
    },
    run: (work) => transaction.run(work),
    onAbort: (listener) => transaction.onAbort(listener),
    complete: (outcome) => tracing.within('complete', () => transaction.complete(outcome)),
    rollBack: () => transaction.rollBack(),
    explain: (error) => transaction.explain(error),
  };
}
