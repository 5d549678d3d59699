/** Address of the picture that a suspended application was left with. */
import { useEffect, useState } from 'react';
import type { WorkloadView } from '../../main/ipc/view.ts';
import { useModel } from '../model.ts';

/** Its thumbnail at once, and the full picture as soon as its address is known. */
export function useLastPicture(view: WorkloadView | undefined): string | undefined {
  const model = useModel();
  const [picture, setPicture] = useState<{ snapshot: string; address: string }>();
  const id = view?.id;
  const snapshot = view?.snapshot;

  useEffect(() => {
    if (id === undefined || snapshot === undefined) return;
    let isOver = false;
    void (async () => {
      try {
        const snapshots = await model.bridge.call('snapshots.list', id);
        const address = snapshots.find((each) => each.id === snapshot)?.picture;
        if (!isOver && address !== undefined) setPicture({ snapshot, address });
      } catch {
        // The thumbnail stays.
      }
    })();
    return () => {
      isOver = true;
    };
  }, [model, id, snapshot]);

  return picture !== undefined && picture.snapshot === snapshot ? picture.address : view?.thumbnail;
}
