/** What the desktop is told of a bundle that has ended while no window was open. */
import { expect, test } from 'vitest';
import type { BundleEnd } from '../../main/ipc/view.ts';
import { de } from '../../main/texts/de.ts';
import { en } from '../../main/texts/en.ts';

const about = { number: 1, path: '/media/me/KEY/session' };
const workloads = (count: number) =>
  Array.from({ length: count }, (_, at) => ({ id: `${at}`, name: 'gimp' }));
const exported: BundleEnd = {
  ...{ ...about, kind: 'exported', workloads: workloads(1) },
  ...{ bytes: 9, bytesWritten: 9, findings: [] },
};
const imported = (count: number): BundleEnd => ({
  ...{ ...about, kind: 'imported', workloads: workloads(count) },
  ...{ isHome: true, documents: [], findings: [] },
});

test('only what was written to the end makes a drive safe to remove', () => {
  expect(en.bundle({ ...exported, drive: 'KEY' })).toEqual({
    level: 'info',
    message: 'It is safe to remove KEY now.',
    hint: '/media/me/KEY/session has all of it, synced and read back.',
  });
  expect(de.bundle({ ...exported, drive: 'KEY' }).message).toBe('KEY kann jetzt entfernt werden.');
  expect(en.bundle(exported).message).toBe('The bundle is complete.');
  const failed: BundleEnd = {
    ...{ ...about, kind: 'failed', operation: 'export', drive: 'KEY', cancelled: false, isPassphrase: false },
    ...{ message: 'There is no room left.', hint: 'Free some.', suspended: [] },
  };
  for (const { bundle } of [en, de])
    expect(bundle(failed)).toEqual({ level: 'error', message: 'There is no room left.', hint: 'Free some.' });
});

test.each([
  [1, 'One application was brought in.', 'Eine Anwendung wurde hereingeholt.'],
  [2, '2 applications were brought in.', '2 Anwendungen wurden hereingeholt.'],
])('%d brought in', (count, english, german) => {
  expect(en.bundle(imported(count)).message).toBe(english);
  expect(de.bundle(imported(count)).message).toBe(german);
});
