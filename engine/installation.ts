/** Where the engine's own programs lie: beside its bundle, or in the checkout's build folder. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TracerPaths } from './criu/tracer.ts';

export interface Installation {
  criu: string;
  /** Host side of a capsule: start, exec, with-root. */
  capsuleTool: string;
  /** Pid 1 of a capsule. */
  capsuleInit: string;
  sockdiag: string;
  rlimitPreload: string;
  /** What traces for CRIU, and the library that lets it. */
  tracer: TracerPaths;
}

function buildFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'native', 'torpor-capsule')) && folder !== '/') {
    if (existsSync(join(folder, 'package.json'))) return join(folder, 'build');
    folder = dirname(folder);
  }
  return folder;
}

/** The installation this engine belongs to; `TORPOR_CRIU` names another CRIU. */
export function findInstallation(env: NodeJS.ProcessEnv = process.env): Installation {
  const build = buildFolder();
  return {
    criu: env.TORPOR_CRIU || join(build, 'criu', 'criu'),
    capsuleTool: join(build, 'native', 'torpor-capsule'),
    capsuleInit: join(build, 'native', 'torpor-init'),
    sockdiag: join(build, 'native', 'torpor-sockdiag'),
    rlimitPreload: join(build, 'native', 'libtorpor-rlimit.so'),
    tracer: {
      program: join(build, 'native', 'torpor-tracer'),
      preload: join(build, 'native', 'libtorpor-trace.so'),
    },
  };
}
