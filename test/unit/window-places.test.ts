/** When windows are remembered and opened again, by what the engine tells of their applications. */
import { EventEmitter } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Workload } from '../../api/types.ts';
import type { Place } from '../../main/ipc/view.ts';
import type { WindowPlacement } from '../../main/shells/placement.ts';
import type { EngineLink } from '../../main/state/engine-link.ts';
import { WindowPlaces } from '../../main/window-places.ts';

const somewhere: WindowPlacement = { size: { width: 640, height: 480 }, state: 'normal', workspace: 3 };

/** A desktop with the windows that are open, and what was opened there. */
function scene(windows: Record<string, WindowPlacement>) {
  const link = new EventEmitter();
  const kept = new Map<string, WindowPlacement>();
  const opened: { place: Place; placement: WindowPlacement | undefined }[] = [];
  const open = new Map(Object.entries(windows));
  const places = new WindowPlaces({
    link: link as unknown as EngineLink,
    placements: {
      of: (workload) => kept.get(workload),
      keep: (workload, placement) => {
        if (placement === undefined) kept.delete(workload);
        else kept.set(workload, placement);
      },
    },
    shell: () => ({
      open: async (place, placement) => void opened.push({ place, placement }),
      placementOf: async (window) => open.get(window),
    }),
  });
  const become = async (...states: Workload['state'][]) => {
    for (const state of states) {
      link.emit('workload', { id: 'a', state });
      await turn();
    }
  };
  return { link, kept, opened, open, places, become };
}

const place: Place = { kind: 'screen', workload: 'a' };

it('opens again what was open', async () => {
  const { kept, opened, open, become, places } = scene({ 'screen-a': somewhere });
  await become('suspending', 'suspended');
  expect(kept.get('a')).toEqual(somewhere);
  expect(places.wanted(place)).toEqual(somewhere);
  expect(places.wanted({ kind: 'home' })).toBeUndefined();
  open.clear();
  // The first try fails.
  await become('resuming', 'suspended');
  expect(opened).toEqual([]);
  await become('resuming', 'running');
  expect(opened).toEqual([{ place, placement: somewhere }]);
});

it('opens nothing that was closed before, is open already, or did not stop for its snapshot', async () => {
  const { kept, opened, open, become } = scene({ 'screen-a': somewhere });
  await become('suspending', 'suspended', 'resuming', 'running');
  expect(opened).toEqual([]);
  await become('suspending');
  open.clear();
  await become('running');
  expect(opened).toEqual([]);
  await become('suspending', 'suspended', 'resuming', 'running');
  expect(kept.size).toBe(0);
  expect(opened).toEqual([]);
});

it('opens nothing of which it is not known how it came to run', async () => {
  const { link, opened, open, become } = scene({ 'screen-a': somewhere });
  await become('suspending', 'suspended', 'resuming');
  open.clear();
  link.emit('connected');
  await become('running');
  expect(opened).toEqual([]);
});

it('forgets with the application', async () => {
  const { link, kept, become } = scene({ 'screen-a': somewhere });
  await become('suspending', 'suspended');
  link.emit('forgotten', 'a');
  expect(kept.size).toBe(0);
});
