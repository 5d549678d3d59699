/** Where the engine's own programs lie: beside its bundle, or in the checkout's build folder. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TracerPaths } from './criu/tracer.ts';
import type { PluginFolders } from './plugin-host/entries.ts';
import type { ProfileFolders } from './profiles/folders.ts';
import type { Preload } from './profiles/profile.ts';

export interface Installation {
  criu: string;
  /** Host side of a capsule: start, exec, with-root. */
  capsuleTool: string;
  /** Pid 1 of a capsule. */
  capsuleInit: string;
  /** Sound server of a capsule. */
  soundServer: string;
  /** Carries its sound outside; the audio plugin starts it. */
  soundRelay: string;
  /** Where a job lives after a resume. */
  roomTool: string;
  /** Keeps the terminal of a job. */
  terminalKeeper: string;
  sockdiag: string;
  /** Takes memory into the store, and keeps the store small and in order. */
  pages: string;
  /** Reads and writes bundles on their medium. */
  bundleProgram: string;
  /** Packs this engine, in a folder of which it lies, for machines that have none. */
  portablePack: string;
  /** Gives memory back to what is resumed. */
  pager: string;
  /** Answers what /proc does not tell. */
  ties: string;
  /** Frees ports of connections that nobody has any more. */
  forget: string;
  /** Keeps what dpkg is about to replace. */
  keep: string;
  /** Knows whether it has been restored as it was. */
  canary: string;
  /** Knows the windows that processes have on a display. */
  desktop: string;
  /** Has the kernel write back the memory of what stands still. */
  nap: string;
  pressure: string;
  playing: string;
  transfers: string;
  /** Knows which files a workload opens. */
  opened: string;
  /** Has the kernel take memory that is marked free. */
  freed: string;
  /** Knows which memory has been written, and the library by which CRIU does without the other. */
  unwritten: { program: string; preload: string };
  /** Lets go of connections that CRIU has held still. */
  connections: string;
  rlimitPreload: string;
  /** Has the processes that a CRIU restores end with it. */
  restorePreload: string;
  /** Gives the terminal to the leader of a session, before it has children. */
  sessionPreload: string;
  /** Makes connected sockets for workloads that are resumed together. */
  socketPairs: string;
  /** Learns of, and stands between, connections to message buses. */
  busLines: string;
  /** Has CRIU's plugin, and nothing else. */
  criuPlugins: string;
  /** Programs that CRIU runs instead of the machine's of the same names. */
  criuPrograms: string;
  /** What traces for CRIU, and the library that lets it. */
  tracer: TracerPaths;
  /** Where the libraries lie that are loaded into applications, by the names in profiles. */
  preloads: Readonly<Record<Preload, string>>;
  profiles: ProfileFolders;
  plugins: PluginFolders;
}

function buildFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'native', 'torpor-capsule')) && folder !== '/') {
    if (existsSync(join(folder, 'package.json'))) return join(folder, 'build');
    folder = dirname(folder);
  }
  return folder;
}

/** In a checkout they are not copied into the build folder. */
function profilesBeside(build: string): string {
  const installed = join(build, 'profiles');
  return existsSync(installed) ? installed : join(dirname(build), 'profiles');
}

/**
 * The installation this engine belongs to; `TORPOR_CRIU` names another CRIU; `TORPOR_PROFILES` and
 * `TORPOR_PLUGINS` other folders of the machine's profiles and plugins.
 */
export function findInstallation(env: NodeJS.ProcessEnv = process.env): Installation {
  const build = buildFolder();
  return {
    criu: env.TORPOR_CRIU || join(build, 'criu', 'criu'),
    capsuleTool: join(build, 'native', 'torpor-capsule'),
    capsuleInit: join(build, 'native', 'torpor-init'),
    soundServer: join(build, 'native', 'torpor-sound'),
    soundRelay: join(build, 'native', 'torpor-sound-relay'),
    roomTool: join(build, 'native', 'torpor-room'),
    terminalKeeper: join(build, 'torpor-terminal.mjs'),
    sockdiag: join(build, 'native', 'torpor-sockdiag'),
    pages: join(build, 'native', 'torpor-pages'),
    bundleProgram: join(build, 'torpor-bundle.mjs'),
    portablePack: join(build, 'portable', 'pack'),
    pager: join(build, 'native', 'torpor-pager'),
    ties: join(build, 'native', 'torpor-ties'),
    forget: join(build, 'native', 'torpor-forget'),
    keep: join(build, 'native', 'torpor-keep'),
    canary: join(build, 'native', 'torpor-canary'),
    desktop: join(build, 'native', 'torpor-desktop'),
    nap: join(build, 'native', 'torpor-nap'),
    pressure: join(build, 'native', 'torpor-pressure'),
    playing: join(build, 'native', 'torpor-playing'),
    transfers: join(build, 'native', 'torpor-transfers'),
    opened: join(build, 'native', 'torpor-opened'),
    freed: join(build, 'native', 'torpor-freed'),
    unwritten: {
      program: join(build, 'native', 'torpor-unwritten'),
      preload: join(build, 'native', 'libtorpor-unwritten.so'),
    },
    connections: join(build, 'native', 'torpor-connections'),
    rlimitPreload: join(build, 'native', 'libtorpor-rlimit.so'),
    restorePreload: join(build, 'native', 'libtorpor-restore.so'),
    sessionPreload: join(build, 'native', 'libtorpor-session.so'),
    socketPairs: join(build, 'native', 'torpor-socketpairs'),
    busLines: join(build, 'native', 'torpor-buslines'),
    criuPlugins: join(build, 'native', 'criu-plugins'),
    criuPrograms: join(build, 'native', 'criu-programs'),
    tracer: {
      program: join(build, 'native', 'torpor-tracer'),
      preload: join(build, 'native', 'libtorpor-trace.so'),
    },
    preloads: { 'chromium-sandbox': join(build, 'native', 'libtorpor-chromium-sandbox.so') },
    profiles: {
      torpor: profilesBeside(build),
      machine: env.TORPOR_PROFILES || '/etc/torpor/profiles',
    },
    plugins: {
      torpor: join(build, 'plugins'),
      own: {
        places: { '@NODE@': process.execPath, '@BUILD@': build },
        environment: {
          // In a package what runs the engine is Electron, which is Node only where it is told so.
          ...(env.ELECTRON_RUN_AS_NODE ? { ELECTRON_RUN_AS_NODE: env.ELECTRON_RUN_AS_NODE } : {}),
          // On somebody else's machine nothing is left in a home folder.
          ...(env.TORPOR_PORTABLE ? { TORPOR_PORTABLE: env.TORPOR_PORTABLE } : {}),
        },
      },
      machine: env.TORPOR_PLUGINS
        ? [env.TORPOR_PLUGINS]
        : ['/usr/share/torpor/plugins', '/etc/torpor/plugins'],
    },
  };
}
