/** The drives that are plugged in, asked for while they are looked at: they come and go without a word. */
import { useEffect, useState } from 'react';
import type { Drive } from '../../main/ipc/view.ts';
import { useModel } from '../model.ts';

const everyMs = 3000;

/** @returns undefined until it is known for the first time */
export function useDrives(): readonly Drive[] | undefined {
  const model = useModel();
  const [drives, setDrives] = useState<readonly Drive[]>();
  useEffect(() => {
    let isWanted = true;
    let hasFailed = false;
    const look = async () => {
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
  }, [model]);
  return drives;
}
