/** Swap of a test's own, compressed in memory or in a file on a loop device; gone when the test is over. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';

const zram = '/dev/zram0';
const size = '/sys/block/zram0/disksize';

export interface TestSwap extends AsyncDisposable {
  device: string;
}

/** Why there can be no swap in zram here; undefined where there can. */
export const noZram = !existsSync(size)
  ? 'this kernel has no zram'
  : readFileSync(size, 'utf8').trim() !== '0'
    ? 'this machine uses its zram'
    : undefined;

export async function zramSwap(mebibytes: number): Promise<TestSwap> {
  await writeFile(size, String(mebibytes * 1024 ** 2));
  execFileSync('mkswap', ['-q', zram], { stdio: 'ignore' });
  execFileSync('swapon', ['--priority', '100', zram]);
  return {
    device: zram,
    [Symbol.asyncDispose]: async () => {
      execFileSync('swapoff', [zram]);
      await writeFile('/sys/block/zram0/reset', '1');
    },
  };
}

/** In a file. */
export async function fileSwap(path: string, mebibytes: number): Promise<TestSwap> {
  execFileSync('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M', `count=${mebibytes}`], { stdio: 'ignore' });
  execFileSync('chmod', ['600', path]);
  execFileSync('mkswap', ['-q', path], { stdio: 'ignore' });
  execFileSync('swapon', [path]);
  return {
    device: path,
    [Symbol.asyncDispose]: async () => {
      const isOn = (await readFile('/proc/swaps', 'utf8')).includes(path);
      if (isOn) execFileSync('swapoff', [path]);
      await rm(path, { force: true });
    },
  };
}
