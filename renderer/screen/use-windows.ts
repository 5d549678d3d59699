/** The windows of the application, asked for again and again while somebody looks. */
import { useEffect, useState } from 'react';
import type { CapsuleWindow } from '../../main/ipc/view.ts';
import { useModel } from '../model.ts';

const everyMs = 1500;

/** @param isRunning whether the application can have any */
export function useWindows(workload: string, isRunning: boolean): readonly CapsuleWindow[] {
  const model = useModel();
  const [windows, setWindows] = useState<readonly CapsuleWindow[]>([]);

  useEffect(() => {
    if (!isRunning) {
      setWindows([]);
      return;
    }
    let isOver = false;
    const read = async () => {
      if (document.hidden) return;
      try {
        const found = await model.bridge.call('screen.windows', workload);
        if (!isOver) setWindows(found);
      } catch {
        // It has ended or the app is away, which the state tells.
      }
    };
    void read();
    const timer = setInterval(() => void read(), everyMs);
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }, [model, workload, isRunning]);

  return windows;
}
