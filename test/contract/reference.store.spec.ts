import { ReferenceStore, type ReferenceData } from '../support/reference.store';
import { storeContract } from './store.contract';

storeContract('Reference store', async ({ retention }) => {
  const data: ReferenceData = { rows: new Map(), fence: 0 };
  const options = { data, retention, now: () => performance.now() };
  return {
    store: new ReferenceStore(options),
    another: new ReferenceStore(options),
    close: async () => undefined,
  };
});
