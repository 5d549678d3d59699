/** How esbuild makes one file of a program of ours, so that it starts quickly and can be installed by copying. */
import type { BuildOptions } from 'esbuild';

export const program = {
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  sourcemap: true,
  // koffi loads its native part from its own folder; pino's transports are not used.
  external: ['koffi'],
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
  logLevel: 'warning',
} as const satisfies BuildOptions;
