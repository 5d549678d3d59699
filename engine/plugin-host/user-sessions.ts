/**
 * What a plugin needs to know of its user's session: where the bus, the sound server and the display are. It comes from
 * the programs with which the user talks to the engine, and only ever goes to programs that run as that user.
 */
import { open, readFile, stat } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { User } from '../capsule/users.ts';
import { writeQuickly } from '../durable.ts';
import type { Logger } from '../log.ts';
import type { Caller } from '../workload/registry.ts';

const wanted =
  /^(DBUS_(SESSION|SYSTEM)_BUS_ADDRESS|XDG_(RUNTIME_DIR|CURRENT_DESKTOP|SESSION_TYPE|(CONFIG|DATA|CACHE|STATE)_HOME)|PULSE_(SERVER|COOKIE|RUNTIME_PATH|CLIENTCONFIG)|PIPEWIRE_(REMOTE|RUNTIME_DIR)|DISPLAY|WAYLAND_DISPLAY|XAUTHORITY|LANG|LANGUAGE|LC_[A-Z]+|TZ)$/;
const longestValue = 4096;
/** More than that of an environment is not read: its process decides how long it is. */
const longestEnvironment = 256 * 1024;

const keptSchema = z.array(z.tuple([z.number().int().nonnegative(), z.record(z.string(), z.string())]));

export class UserSessions {
  readonly #known: Map<number, Record<string, string>>;
  /** Called with what is known whenever that has changed. */
  readonly #keep: (known: ReadonlyMap<number, Record<string, string>>) => void;

  constructor(
    known: Iterable<readonly [number, Record<string, string>]> = [],
    keep: (known: ReadonlyMap<number, Record<string, string>>) => void = () => {},
  ) {
    this.#known = new Map(known);
    this.#keep = keep;
  }

  /**
   * With what an earlier engine knew, since it may have been killed while plugins were needed, and with a record for the
   * next one.
   * @param file in the run folder, so that a reboot forgets it.
   */
  static async open(file: string, log: Logger): Promise<UserSessions> {
    const kept = await readFile(file, 'utf8')
      .then((text) => keptSchema.parse(JSON.parse(text)))
      .catch(() => []);
    let written: Promise<void> = Promise.resolve();
    return new UserSessions(kept, (known) => {
      const text = JSON.stringify([...known]);
      written = written
        .then(() => writeQuickly(file, text))
        .catch((error: unknown) => log.warn({ err: error }, 'where sessions are could not be kept'));
    });
  }

  /** Takes over what the environment of a user's own program says. One that knows no session changes nothing. */
  note(uid: number, environment: Readonly<Record<string, string>>): void {
    const taken = Object.entries(environment).filter(
      ([name, value]) => wanted.test(name) && value !== '' && value.length <= longestValue,
    );
    if (!taken.some(([name]) => /^(DBUS_(SESSION|SYSTEM)_BUS_ADDRESS|XDG_RUNTIME_DIR)$/.test(name))) return;
    const session = Object.fromEntries(taken);
    if (isDeepStrictEqual(session, this.#known.get(uid))) return;
    this.#known.set(uid, session);
    this.#keep(this.#known);
  }

  /** The same from a process that has called; one that has gone meanwhile, or is another's now, changes nothing. */
  async noteProcess(uid: number, pid: number): Promise<void> {
    const text = await environmentAt(uid, pid).catch(() => '');
    const pairs = text.split('\0').flatMap((each): [string, string][] => {
      const at = each.indexOf('=');
      return at < 1 ? [] : [[each.slice(0, at), each.slice(at + 1)]];
    });
    this.note(uid, Object.fromEntries(pairs));
  }

  /** The same from whoever calls. */
  async noteCaller({ uid, pid }: Caller): Promise<void> {
    if (pid !== undefined) await this.noteProcess(uid, pid);
  }

  /** The environment of a program of the user's session. */
  async environmentOf(user: User): Promise<Record<string, string>> {
    const known = this.#known.get(user.uid) ?? (await usualSession(user.uid));
    return {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      ...known,
      HOME: user.home,
      USER: user.name,
      LOGNAME: user.name,
      SHELL: user.shell,
    };
  }
}

/** Where systemd's log-in manager has it. */
async function usualSession(uid: number): Promise<Record<string, string>> {
  const folder = `/run/user/${uid}`;
  const found = await stat(folder).catch(() => undefined);
  if (found?.uid !== uid) return {};
  const bus = await stat(`${folder}/bus`).catch(() => undefined);
  return {
    XDG_RUNTIME_DIR: folder,
    ...(bus?.isSocket() ? { DBUS_SESSION_BUS_ADDRESS: `unix:path=${folder}/bus` } : {}),
  };
}

/** Through one open file, which is of the same process from first to last. */
async function environmentAt(uid: number, pid: number): Promise<string> {
  await using file = await open(`/proc/${pid}/environ`);
  if ((await file.stat()).uid !== uid) return '';
  const { buffer, bytesRead } = await file.read(Buffer.alloc(longestEnvironment));
  return buffer.toString('utf8', 0, bytesRead);
}
