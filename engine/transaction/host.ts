/** The machine a snapshot was taken on, as far as a resume depends on it. */
import { readFile } from 'node:fs/promises';
import { arch, release } from 'node:os';
import type { Manifest } from '../../proto/manifest.ts';
import type { CriuClient } from '../criu/client.ts';

/** The CPU's features, as the kernel names them; sorted. */
export async function cpuFeatures(): Promise<string[]> {
  const text = await readFile('/proc/cpuinfo', 'utf8');
  const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(text)?.[1] ?? '';
  return flags.trim().split(/\s+/).sort();
}

export async function describeHost(criu: CriuClient): Promise<Manifest['host']> {
  return {
    kernel: release(),
    criu: (await criu.version()).text,
    architecture: arch(),
    cpuFeatures: await cpuFeatures(),
  };
}
