/** The drives that are plugged in, asked for while they are looked at: they come and go without a word. */
import { useEffect, useState } from 'react';
import type { Drive } from '../../main/ipc/view.ts';
import { useAppState, useModel } from '../model.ts';

const everyMs = 3000;

/** @returns undefined until it is known for the first time */
export function useDrives(): readonly Drive[] | undefined {
  const model = useModel();
  const { bundle } = useAppState();
  // A drive that is written to is not read beside it; when that is over it is looked at anew.
  const isBusy = bundle !== undefined;
  const [drives, setDrives] = useState<readonly Drive[]>();
  useEffect(() => {
    if (isBusy) return;
    let isWanted = true;
    let hasFailed = false;
    const look = async () => {
      if (document.hidden) return;
      try {
        const found = await model.bridge.call('drives.list');
        if (isWanted) setDrives(found);
      } catch (error) {
        // Once is enough: it is tried again by itself.
        if (isWanted && !hasFailed) model.fail(error);
        hasFailed = true;
      }
    };
    void look();
    const timer = setInterval(() => void look(), everyMs);
    return () => {
      isWanted = false;
      clearInterval(timer);
    };
  }, [model, isBusy]);
  return drives;
}
