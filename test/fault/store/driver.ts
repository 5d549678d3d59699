/** The process that works on a store while it is recorded: it takes steps from its parent, one after the other. */
import type { SnapshotStore } from '../../../engine/store/snapshot-store.ts';
import type { Answer, Step } from './steps.ts';
import { openStore, suspend } from './work.ts';

const folder = process.argv[2] ?? '';
let store: SnapshotStore | undefined;

process.on('message', (step: Step) => {
  perform(step).then((answer) => process.send?.(answer));
});
process.on('disconnect', () => process.exit());
process.send?.({ ok: true } satisfies Answer);

async function perform(step: Step): Promise<Answer> {
  let id: string | undefined;
  try {
    if (step.kind === 'open') store = await openStore(folder);
    else if (store === undefined) throw new Error('the store is not open');
    else if (step.kind === 'suspend')
      await suspend(store, step, (named) => {
        id = named;
      });
    else await store.remove(step.id);
    return { ok: true, ...(id === undefined ? {} : { id }) };
  } catch (error) {
    return { ok: false, error: String(error), ...(id === undefined ? {} : { id }) };
  }
}
