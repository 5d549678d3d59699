/** Which kernels there are, and what is said of each before the machine goes to it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandLineFor, findingsAboutKexec, isLockedDown } from '../../engine/kexec/jump.ts';
import { parseConfig, parseModules } from '../../engine/kexec/kernel-config.ts';
import { compareVersions, Kernels } from '../../engine/kexec/kernels.ts';
import { findingsAbout, type Needs } from '../../engine/kexec/requirements.ts';

let root: string;

beforeAll(() => {
  root = mkdtempSync('/tmp/torpor-kernels-');
  const files: Record<string, string> = {
    'boot/vmlinuz-6.1.0-9-amd64': '',
    'boot/initrd.img-6.1.0-9-amd64': '',
    'boot/config-6.1.0-9-amd64': 'CONFIG_CHECKPOINT_RESTORE=y\n# CONFIG_USERFAULTFD is not set\n',
    'boot/vmlinuz-6.1.0-49-amd64': '',
    'boot/vmlinuz-6.1.0-49-amd64.old': '',
    'boot/grub/vmlinuz-none': '',
    'lib/modules/6.12.1/vmlinuz': '',
    'lib/modules/6.12.1/config': 'CONFIG_EXT4_FS=m\n',
    'lib/modules/6.12.1/modules.dep':
      'kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz\nkernel/net/unix/unix_diag.ko:\nkernel/a/dm-mod.ko.zst:\n',
    'lib/modules/6.12.1/modules.builtin': 'kernel/drivers/nvme/host/nvme-core.ko\n',
  };
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(root, dirname(name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('installed kernels', () => {
  it('are those of /boot and of /lib/modules, the newest first', async () => {
    const kernels = await new Kernels(root).list();
    expect(kernels).toEqual([
      { version: '6.12.1', image: join(root, 'lib/modules/6.12.1/vmlinuz'), initrd: undefined },
      {
        version: '6.1.0-49-amd64',
        image: join(root, 'boot/vmlinuz-6.1.0-49-amd64'),
        initrd: undefined,
      },
      {
        version: '6.1.0-9-amd64',
        image: join(root, 'boot/vmlinuz-6.1.0-9-amd64'),
        initrd: join(root, 'boot/initrd.img-6.1.0-9-amd64'),
      },
    ]);
    expect(await new Kernels(join(root, 'nothing')).list()).toEqual([]);
  });

  it('have their versions compared by numbers', () => {
    const versions = ['6.1.0-9', '6.12.3', '6.1.0-49', '5.10.0', '6.12.0-rc1'];
    expect(versions.sort(compareVersions)).toEqual(['6.12.3', '6.12.0-rc1', '6.1.0-49', '6.1.0-9', '5.10.0']);
  });

  it('have a configuration and modules, wherever these lie', async () => {
    const kernels = new Kernels(root);
    expect(await kernels.configOf('6.1.0-9-amd64')).toEqual(new Map([['CHECKPOINT_RESTORE', 'y']]));
    expect(await kernels.configOf('6.12.1')).toEqual(new Map([['EXT4_FS', 'm']]));
    expect(await kernels.configOf('6.1.0-49-amd64')).toBeUndefined();
    expect(await kernels.modulesOf('6.1.0-9-amd64')).toBeUndefined();
    const modules = await kernels.modulesOf('6.12.1');
    expect([...(modules?.loadable ?? [])]).toEqual(['ext4', 'unix_diag', 'dm_mod']);
    expect([...(modules?.builtIn ?? [])]).toEqual(['nvme_core']);
  });
});

const needs: Needs = { fileSystem: 'ext4', drivers: [], hasLayers: false, hasTimeNamespaces: true };
const yes =
  'CHECKPOINT_RESTORE NAMESPACES PID_NS IPC_NS UTS_NS TIME_NS CGROUPS FHANDLE INOTIFY_USER EPOLL EVENTFD SIGNALFD TIMERFD UNIX98_PTYS SECCOMP_FILTER TMPFS USERFAULTFD';
const modular: Record<string, string> = {
  UNIX_DIAG: 'unix_diag',
  INET_DIAG: 'inet_diag',
  INET_TCP_DIAG: 'tcp_diag',
  INET_UDP_DIAG: 'udp_diag',
  NETLINK_DIAG: 'netlink_diag',
  PACKET_DIAG: 'af_packet_diag',
  NF_TABLES: 'nf_tables',
  EXT4_FS: 'ext4',
};
const config = parseConfig(
  [
    ...yes.split(' ').map((name) => `CONFIG_${name}=y`),
    ...Object.keys(modular).map((name) => `CONFIG_${name}=m`),
  ].join('\n'),
);
const modules = parseModules(
  '6.12.1',
  Object.values(modular)
    .map((name) => `kernel/x/${name}.ko.xz:`)
    .join('\n'),
  'kernel/drivers/nvme/host/nvme.ko\n',
);

describe('a kernel', () => {
  it('is good that has all that is needed', () => {
    expect(findingsAbout('6.12.1', config, modules, needs)).toEqual([]);
  });

  it.each([...yes.split(' ').filter((name) => name !== 'USERFAULTFD'), ...Object.keys(modular)])(
    'is refused without %s, which is named',
    (option) => {
      const less = new Map([...config].filter(([name]) => name !== option));
      const fewer = {
        ...modules,
        loadable: new Set([...modules.loadable].filter((name) => name !== modular[option])),
      };
      const [found, ...more] = findingsAbout('6.12.1', less, fewer, needs);
      expect(more).toEqual([]);
      expect(found).toMatchObject({ verdict: 'blocking', what: expect.stringContaining(`CONFIG_${option}`) });
    },
  );

  it.each(Object.entries(modular))('is refused where the module of %s is not there', (_option, module) => {
    const fewer = { ...modules, loadable: new Set([...modules.loadable].filter((name) => name !== module)) };
    const [found, ...more] = findingsAbout('6.12.1', config, fewer, needs);
    expect(more).toEqual([]);
    expect(found).toMatchObject({ verdict: 'blocking', what: expect.stringContaining(`(${module})`) });
  });

  it('does without userfaultfd, and that is said', () => {
    const less = new Map([...config].filter(([name]) => name !== 'USERFAULTFD'));
    expect(findingsAbout('6.12.1', less, modules, needs)).toMatchObject([{ verdict: 'degraded' }]);
  });

  it('is refused where nobody knows what it can do', () => {
    expect(findingsAbout('6.12.1', undefined, modules, needs)).toMatchObject([
      { verdict: 'blocking', what: expect.stringContaining('/boot/config-6.12.1') },
    ]);
  });

  it('is refused where it does not drive what the state folder lies on', () => {
    const found = findingsAbout('6.12.1', config, modules, { ...needs, drivers: ['nvme', 'dm_crypt'] });
    expect(found).toMatchObject([{ verdict: 'blocking', what: expect.stringContaining('dm_crypt') }]);
    expect(findingsAbout('6.12.1', config, modules, { ...needs, fileSystem: 'xfs' })).toMatchObject([
      { verdict: 'blocking', what: expect.stringContaining('XFS_FS') },
    ]);
  });

  it('needs overlayfs only for what runs on one', () => {
    expect(findingsAbout('6.12.1', config, modules, { ...needs, hasLayers: true })).toMatchObject([
      { verdict: 'blocking', what: expect.stringContaining('OVERLAY_FS') },
    ]);
  });
});

describe('kexec', () => {
  const fine = {
    lockdown: '[none] integrity confidentiality',
    isDisabled: '0',
    hasTool: true,
    mayReboot: true,
  };

  it('is possible where nothing forbids it', () => {
    expect(findingsAboutKexec(fine)).toEqual([]);
    expect(findingsAboutKexec({ ...fine, lockdown: undefined })).toEqual([]);
  });

  it.each([
    ['is switched off', { isDisabled: '1' }],
    ['has no kexec', { isDisabled: undefined }],
    ['is not installed', { hasTool: false }],
    ['CAP_SYS_BOOT', { mayReboot: false }],
  ])('is refused where it %s', (said, how) => {
    expect(findingsAboutKexec({ ...fine, ...how })).toMatchObject([
      { verdict: 'blocking', what: expect.stringContaining(said) },
    ]);
  });

  it.each(['none [integrity] confidentiality', 'none integrity [confidentiality]'])(
    'takes signed kernels where the lockdown is %s',
    (lockdown) => {
      expect(isLockedDown({ lockdown })).toBe(true);
      expect(findingsAboutKexec({ ...fine, lockdown })).toMatchObject([{ verdict: 'degraded' }]);
    },
  );

  it('passes on the command line but for the files of the kernel before', () => {
    expect(
      commandLineFor('BOOT_IMAGE=/vmlinuz-6.1 root=UUID=1 ro  quiet initrd=\\initrd.img x.y="a=b"\n'),
    ).toBe('root=UUID=1 ro quiet x.y="a=b"');
  });
});
