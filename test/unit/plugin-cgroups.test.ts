import { describe, expect, it } from 'vitest';
import { pluginHierarchies } from '../../engine/plugin-host/plugin-cgroups.ts';

const v1 = (path: string, superOptions: string) => ({ path, type: 'cgroup', superOptions });
const v2 = (path: string) => ({ path, type: 'cgroup2', superOptions: 'rw' });
const other = { path: '/', type: 'ext4', superOptions: 'rw,pids' };

describe('cgroups of plugins', () => {
  it.each([
    ['of version 2 alone', [v2('/c')], ['v2 /c']],
    ['of both', [v1('/p', 'rw,pids'), v1('/m', 'rw,memory'), v2('/c')], ['v2 /c', 'v1 /p', 'v1 /m']],
    ['mounted together', [v1('/x', 'rw,memory,pids'), v1('/f', 'rw,freezer')], ['v1 /x']],
    ['that limit nothing', [v1('/f', 'rw,freezer'), v1('/s', 'rw,name=systemd')], ['v1 /f']],
    ['that are not there', [other], []],
  ])('are in the hierarchies %s', (_, mounts, expected) => {
    const found = pluginHierarchies([other, ...mounts]);
    expect(found.map(({ kind, mountPoint }) => `${kind} ${mountPoint}`)).toEqual(expected);
  });
});
