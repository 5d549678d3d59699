/** A key with exFAT, which a process of its own serves (FUSE), on a loop device: it can be torn out, and wear out. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { truncateSync, writeFileSync } from 'node:fs';
import { expect, vi } from 'vitest';

export class ExfatKey {
  readonly #image: string;
  readonly #mountPoint: string;
  #device: string | undefined;
  #server: ReturnType<typeof spawn> | undefined;

  private constructor(image: string, mountPoint: string) {
    this.#image = image;
    this.#mountPoint = mountPoint;
  }

  static make(image: string, { bytes, mountPoint }: { bytes: number; mountPoint: string }): ExfatKey {
    writeFileSync(image, '');
    truncateSync(image, bytes);
    execFileSync('mkfs.exfat', [image], { stdio: 'ignore' });
    return new ExfatKey(image, mountPoint);
  }

  async plugIn(...options: string[]): Promise<void> {
    this.#device = execFileSync('losetup', ['--find', '--show', this.#image], { encoding: 'utf8' }).trim();
    const words = ['-d', '-o', ['allow_other', ...options].join(','), this.#device, this.#mountPoint];
    this.#server = spawn('mount.exfat-fuse', words, { stdio: 'ignore' });
    const kind = () => execFileSync('stat', ['-f', '-c', '%T', this.#mountPoint], { encoding: 'utf8' });
    await vi.waitFor(() => expect(kind()).toMatch(/fuse/), { timeout: 10_000, interval: 20 });
  }

  /** In an orderly manner, or while something is written. Safe to repeat. */
  async pullOut(how: 'ejected' | 'torn'): Promise<void> {
    const runs = this.#server?.exitCode === null && this.#server.signalCode === null;
    const ended = runs && this.#server !== undefined ? once(this.#server, 'exit') : undefined;
    if (how === 'torn') this.#server?.kill('SIGKILL');
    // Where it never came to be mounted there is nothing to take away.
    spawnSync('umount', how === 'torn' ? ['-l', this.#mountPoint] : [this.#mountPoint]);
    await ended;
    if (this.#device !== undefined) execFileSync('losetup', ['--detach', this.#device]);
    this.#server = this.#device = undefined;
  }

  /** What lies behind so much of it can no longer be read. */
  wearOut(from: number): void {
    truncateSync(this.#image, from);
  }
}
