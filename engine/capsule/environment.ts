/**
 * The environment of an application in a capsule: language, theme and tool settings come from whoever started it;
 * everything that names a place of the caller's own session (display, bus, sockets) does not.
 */
import type { CapsuleSpec } from '../../proto/manifest.ts';
import type { User } from './users.ts';

const inherited =
  /^(LANG|LANGUAGE|LC_.*|TZ|TERM|EDITOR|VISUAL|PAGER|PATH|XDG_(CONFIG|DATA|CACHE|STATE)_HOME|XDG_(CONFIG|DATA)_DIRS|XDG_CURRENT_DESKTOP|GTK_(THEME|IM_MODULE|MODULES)|GDK_(SCALE|DPI_SCALE)|QT_(STYLE_OVERRIDE|QPA_PLATFORMTHEME|SCALE_FACTOR|FONT_DPI)|XCURSOR_(THEME|SIZE)|JAVA_.*|_JAVA_OPTIONS|PYTHON.*|NODE_.*|SAL_.*|MOZ_.*|HTTPS?_PROXY|NO_PROXY|https?_proxy|no_proxy)$/;

const defaultPath = '/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games';

/** Directories named by these belong to the caller; another user does not get them. */
const personal = /^XDG_(CONFIG|DATA|CACHE|STATE)_HOME$/;

/** `given` (from `--env`) wins over everything; `sameUser` says whether the caller is whom the application runs as. */
export function applicationEnvironment(
  callerEnv: Readonly<Record<string, string>>,
  given: Readonly<Record<string, string>>,
  user: User,
  sameUser: boolean,
): Record<string, string> {
  const taken = Object.entries(callerEnv).filter(
    ([name]) => inherited.test(name) && (sameUser || !personal.test(name)),
  );
  return {
    PATH: defaultPath,
    ...Object.fromEntries(taken),
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    SHELL: user.shell,
    ...given,
  };
}

/** What tells a program in a capsule where its screen and its bus are; torpor-init sets the same for the application. */
export function sessionEnvironment({ user, display = 0 }: CapsuleSpec): Record<string, string> {
  const runtime = `/run/user/${user.uid}`;
  return {
    DISPLAY: `:${display}`,
    XDG_RUNTIME_DIR: runtime,
    DBUS_SESSION_BUS_ADDRESS: `unix:path=${runtime}/bus`,
    PULSE_SERVER: `unix:${runtime}/pulse/native`,
  };
}
