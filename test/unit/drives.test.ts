/** Which drives can be taken away, by what lsblk says of them, and which bundles are on them. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { driveOf } from '../../main/bundles.ts';
import { bundleAt, bundlesIn, drivesIn } from '../../main/desktop/drives.ts';
import type { Drive } from '../../main/ipc/view.ts';

const device = (name: string, more: object = {}) => ({
  ...{ name, rm: false, hotplug: false, tran: null, label: null, model: null },
  ...{ fstype: null, fssize: null, fsavail: null, mountpoints: [null] },
  ...more,
});
const drives = (...blockdevices: object[]) => drivesIn(JSON.stringify({ blockdevices }));

describe('drives', () => {
  test('a partition of what is removable is one, by its label, else by what the device is', () => {
    const partition = { fstype: 'exfat', fssize: '64000000000', fsavail: 32_000_000_000 };
    const stick = device('sdb', {
      ...{ rm: true, hotplug: true, tran: 'usb', model: 'DataTraveler 3.0 ' },
      children: [
        device('sdb1', { ...partition, rm: true, label: 'KEY', mountpoints: ['/media/me/KEY'] }),
        device('sdb2', { ...partition, mountpoints: ['/home/me/stick'] }),
        device('sdb3', { ...partition }),
      ],
    });
    expect(drives(stick)).toEqual([
      {
        ...{ path: '/media/me/KEY', name: 'KEY', fileSystem: 'exfat' },
        ...{ freeBytes: 32_000_000_000, totalBytes: 64_000_000_000 },
      },
      {
        ...{ path: '/home/me/stick', name: 'DataTraveler 3.0', fileSystem: 'exfat' },
        ...{ freeBytes: 32_000_000_000, totalBytes: 64_000_000_000 },
      },
    ]);
  });

  test('what is built in is none, unless it is mounted where drives are', () => {
    const built = device('nvme0n1', {
      tran: 'nvme',
      children: [
        device('nvme0n1p1', { mountpoints: ['/boot/efi'] }),
        device('nvme0n1p2', { mountpoints: ['/', '/var/snap'] }),
        device('nvme0n1p3', { mountpoints: ['/run/media/me/backup'] }),
        device('nvme0n1p4', { mountpoints: ['[SWAP]'] }),
      ],
    });
    expect(drives(built)).toMatchObject([{ path: '/run/media/me/backup', name: 'backup' }]);
    expect(drives()).toEqual([]);
  });

  test('an encrypted drive is the one that is mounted of it', () => {
    const inner = device('luks-1', { fstype: 'ext4', label: 'secret', mountpoints: ['/media/me/secret'] });
    const outer = device('sdc', { hotplug: true, children: [device('sdc1', { children: [inner] })] });
    expect(drives(outer).map(({ name }) => name)).toEqual(['secret']);
  });

  test('what the system runs from stays, also on a card or a key', () => {
    const card = (...mountpoints: string[]) =>
      device('mmcblk0', {
        hotplug: true,
        children: [device('mmcblk0p1', { mountpoints }), device('mmcblk0p2', { mountpoints: ['/srv/data'] })],
      });
    for (const path of ['/', '/boot/firmware', '/home', '/usr', '/run/live/medium', '/nix/store', '/cdrom'])
      expect(drives(card(path)), path).toEqual([]);
    // A part of it that was mounted as one is.
    expect(drives(card('/', '/media/me/rest')).map(({ path }) => path)).toEqual(['/media/me/rest']);
    // These only begin like the system's.
    for (const path of ['/homework', '/bootleg', '/data', '/run/media/me/card'])
      expect(drives(device('mmcblk0', { hotplug: true, mountpoints: [path] })), path).toMatchObject([
        { path },
      ]);
  });

  test('a file system over several disks is one drive', () => {
    const part = (name: string) => device(name, { rm: true, label: 'PAIR', mountpoints: ['/media/me/PAIR'] });
    expect(drives(part('sdb'), part('sdc'))).toHaveLength(1);
  });

  test('what lsblk never says is an error', () => {
    expect(() => drivesIn('{}')).toThrow();
    expect(() => drivesIn('lsblk: not found')).toThrow();
  });
});

describe('the drive of a path', () => {
  const driveAt = (path: string): Drive => ({
    ...{ path, name: path, fileSystem: 'ext4', freeBytes: 0, totalBytes: 0, readOnly: false, bundles: [] },
  });
  const [outer, inner] = [driveAt('/mnt/a'), driveAt('/mnt/a/b')];

  test.each([
    ['/mnt/a/session', outer],
    ['/mnt/a/b/session', inner],
    ['/mnt/ab/session', undefined],
    ['/mnt/a', undefined],
    ['/home/me/session', undefined],
  ])('%s', (path, expected) => {
    expect(driveOf(path, [outer, inner])).toBe(expected);
  });
});

describe('bundles on a drive', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'torpor-drive-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const makeFolderBundle = async (path: string) => {
    await mkdir(join(path, 'catalogues'), { recursive: true });
    await writeFile(join(path, 'header.torpor'), '');
  };

  test('are found by header or name, one folder deep, and hidden ones are not', async () => {
    await makeFolderBundle(join(folder, 'session'));
    await makeFolderBundle(join(folder, 'work', 'thesis'));
    await makeFolderBundle(join(folder, 'too', 'far', 'down'));
    await makeFolderBundle(join(folder, '.Trash', 'old'));
    await mkdir(join(folder, 'header'));
    await writeFile(join(folder, 'one.torpor'), '');
    await writeFile(join(folder, 'letter.odt'), '');
    const found = await bundlesIn(folder);
    expect(found.map(({ name, form }) => `${name} ${form}`).sort()).toEqual([
      'one.torpor file',
      'session folder',
      'thesis folder',
    ]);
  });

  test('links are none, since the engine does not follow them', async () => {
    await makeFolderBundle(join(folder, 'session'));
    await writeFile(join(folder, 'one.torpor'), '');
    await symlink(join(folder, 'session'), join(folder, 'link'));
    await symlink(join(folder, 'one.torpor'), join(folder, 'link.torpor'));
    expect((await bundlesIn(folder)).map(({ name }) => name).sort()).toEqual(['one.torpor', 'session']);
  });

  test('nothing is none', async () => {
    expect(await bundleAt(join(folder, 'nothing'))).toBeUndefined();
    expect(await bundleAt(folder)).toBeUndefined();
    expect(await bundlesIn(join(folder, 'nothing'))).toEqual([]);
  });
});
