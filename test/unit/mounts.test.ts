/** Which mount a path lies on. */
import { expect, it } from 'vitest';
import { mountOf, parseMountinfo } from '../../engine/mounts.ts';

const mounts = parseMountinfo(
  [
    '21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,/dev/vda',
    '22 21 254:1 / /var rw,nosuid,noexec - ext4 /dev/vdb /dev/vdb',
    '23 22 254:2 / /var/lib rw - xfs /dev/vdc rw,attr2',
    '24 22 0:30 / /var/lib rw,noexec - tmpfs tmpfs hiding',
    '25 21 0:31 / /with\\040space rw - tmpfs tmpfs spaced',
  ].join('\n'),
);

it.each([
  ['/', '/dev/vda'],
  ['/usr/lib', '/dev/vda'],
  ['/variant', '/dev/vda'],
  ['/var', '/dev/vdb'],
  ['/with space/x', 'spaced'],
  // The last one hides the others.
  ['/var/lib', 'hiding'],
  ['/var/lib/torpor/kept-files', 'hiding'],
])('%s is on %s', (path, expected) => {
  expect(mountOf(mounts, path)?.superOptions).toContain(expected);
});

it('has the options of the mount apart from those of the file system', () => {
  expect(mountOf(mounts, '/var/x')?.options).toEqual(['rw', 'nosuid', 'noexec']);
  expect(mountOf(mounts, '/x')).toMatchObject({ path: '/', superOptions: 'rw,/dev/vda' });
  expect(mountOf([], '/x')).toBeUndefined();
});
