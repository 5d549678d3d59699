/** The process that works on a store while it is recorded: it takes steps from its parent, one after the other. */
import type { SnapshotStore } from '../../../engine/store/snapshot-store.ts';
import type { Answer, Step } from './steps.ts';
import { recompress, reopenStore, suspend, sweep } from './work.ts';

const folder = process.argv[2] ?? '';
let store: SnapshotStore | undefined;

process.on('message', (step: Step) => {
  perform(step).then(
    (id) => answer({ ok: true, ...(id === undefined ? {} : { id }) }),
    (error: unknown) => answer({ ok: false, error: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
answer({ ok: true });

function answer(what: Answer): void {
  process.send?.(what);
}

function opened(): SnapshotStore {
  if (store === undefined) throw new Error('the store is not open');
  return store;
}

/** @returns the id of what it has made. */
async function perform(step: Step): Promise<string | undefined> {
  switch (step.kind) {
    case 'open':
      store = await reopenStore(folder);
      return undefined;
    case 'suspend':
      return await suspend(opened(), step);
    case 'remove':
      await opened().remove(step.id);
      return undefined;
    case 'sweep':
      await sweep(opened());
      return undefined;
    case 'recompress':
      await recompress(opened());
      return undefined;
  }
}
