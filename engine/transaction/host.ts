/** The machine a snapshot was taken on, as far as a resume depends on it. */
import { arch, release } from 'node:os';
import type { Manifest } from '../../proto/manifest.ts';
import type { CriuClient } from '../criu/client.ts';
import { cpuFeatures } from './cpu.ts';

export async function describeHost(criu: CriuClient): Promise<Manifest['host']> {
  return {
    kernel: release(),
    criu: (await criu.version()).text,
    architecture: arch(),
    cpuFeatures: await cpuFeatures(),
  };
}
