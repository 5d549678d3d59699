/** What a plugin is to be seen at work with: an application that holds something outside, and a look at that. */
import { execFile } from 'node:child_process';
import type { PluginWorkload } from '../../api/plugin-types.ts';
import type { User } from '../../engine/capsule/users.ts';
import { UserSessions } from '../../engine/plugin-host/user-sessions.ts';

const commandLimitMs = 60_000;

export interface Surroundings {
  /** What else the environment of the user's session has. */
  env: Readonly<Record<string, string>>;
  /** A command line of sh, which is to go on until it is ended; otherwise one that does nothing. */
  application?: string;
  /** Called once the application runs, before the plugin is called for it. */
  prepare?(workload: PluginWorkload): Promise<void>;
  /**
   * What the application has of what the plugin is for, seen from outside and without the plugin. Nothing (the empty text)
   * where it has let go, and otherwise the same text however often it was suspended.
   */
  held?(workload: PluginWorkload): Promise<string>;
  dispose?(): Promise<void>;
}

/** What scripts/test-plugin.ts is given; commands are lines of sh that run as the user. */
export interface Given {
  /** A path of a service file, or a bus name. */
  plugin: string;
  user: string;
  /** Each `NAME=VALUE`. */
  env: readonly string[];
  application?: string;
  prepare?: string;
  held?: string;
}

export function givenSurroundings(
  user: User,
  { env: pairs, application, prepare, held }: Omit<Given, 'plugin' | 'user'>,
): Surroundings {
  const env = Object.fromEntries(
    pairs.map((each) => [each.slice(0, each.indexOf('=')), each.slice(each.indexOf('=') + 1)]),
  );
  const run = async (command: string, { id, runFolder = '' }: PluginWorkload) => {
    const session = await sessionOf(user, env);
    const about = { TORPOR_WORKLOAD: id, TORPOR_RUN_FOLDER: runFolder };
    return runAs(user, command, { ...session, ...about });
  };
  return {
    env,
    ...(application === undefined ? {} : { application }),
    ...(prepare === undefined
      ? {}
      : {
          prepare: async (workload) => {
            const { code, stderr } = await run(prepare, workload);
            if (code !== 0) throw new Error(`\`${prepare}\` ended with status ${code}: ${stderr.trim()}`);
          },
        }),
    ...(held === undefined ? {} : { held: async (workload) => (await run(held, workload)).stdout.trim() }),
  };
}

/** The environment of a program of the user's session, as the engine gives it to plugins. */
export async function sessionOf(
  user: User,
  env: Readonly<Record<string, string>>,
): Promise<Record<string, string>> {
  const sessions = new UserSessions();
  // The caller's session is root's; another user's is where the log-in manager has it.
  sessions.note(user.uid, { ...(user.uid === 0 ? (process.env as Record<string, string>) : {}), ...env });
  return { ...(await sessions.environmentOf(user)), ...env };
}

/** Whatever it ends with: a grep that finds nothing has found nothing. */
function runAs(
  { uid, gid }: User,
  command: string,
  env: Record<string, string>,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const as = uid === 0 ? {} : { uid, gid };
  return new Promise((resolve) => {
    execFile(
      'sh',
      ['-c', command],
      { ...as, env, cwd: '/', timeout: commandLimitMs },
      (error, stdout, stderr) =>
        resolve({
          code: typeof error?.code === 'number' ? error.code : error === null ? 0 : 1,
          stdout,
          stderr,
        }),
    );
  });
}
