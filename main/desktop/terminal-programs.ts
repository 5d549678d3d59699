/** The user's programs that run in terminals, which Torpor did not start: what can be suspended as a job. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { nameOfCommand } from '../../api/command-name.ts';
import type { ProgramView } from '../ipc/view.ts';

/** The kernel tells times in these, whatever its own clock is (proc(5)). */
const ticksPerSecond = 100;
/** More than anybody looks through. */
const mostPrograms = 50;
/** A shell that waits for commands: what is of use in it are the programs that it has started. */
const shell = /^-?(?:ba|da|z|k|fi|a)?sh$/;

interface Line {
  pid: number;
  ppid: number;
  group: number;
  session: number;
  terminal: number;
  /** Since the machine was started, in milliseconds. */
  startedMs: number;
}

/**
 * Each by its first process, the newest first.
 * @param isKnown whether a process belongs to a workload already.
 */
export async function programsInTerminals(isKnown: (pid: number) => boolean): Promise<ProgramView[]> {
  const uid = process.getuid?.() ?? 0;
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const all = await Promise.all(pids.map(readLine));
  const lines = all.filter((line) => line !== undefined && line.terminal !== 0 && line.pid === line.group);
  const above = ancestorsOf(process.pid, new Map(all.flatMap((line) => (line ? [[line.pid, line]] : []))));
  const bootedAt = Date.now() - (await uptimeMs());
  const found = await Promise.all(
    lines.map(async (line): Promise<ProgramView | undefined> => {
      if (line === undefined || isKnown(line.pid) || above.has(line.pid)) return undefined;
      const { pid, session, startedMs } = line;
      const [owner, words] = await Promise.all([ownerOf(pid), commandOf(pid)]);
      if (owner !== uid || words.length === 0 || isOwnCommand(words)) return undefined;
      if (session === pid && isWaitingShell(words)) return undefined;
      const startedAt = new Date(bootedAt + startedMs).toISOString();
      return { pid, name: nameOfCommand(words), command: words.join(' ').slice(0, 300), startedAt };
    }),
  );
  return found
    .filter((program) => program !== undefined)
    .sort((a, b) => b.startedAt.localeCompare(a.startedAt) || b.pid - a.pid)
    .slice(0, mostPrograms);
}

/** What this program itself runs in, and this program. */
function ancestorsOf(pid: number, lines: ReadonlyMap<number, Line>): Set<number> {
  const found = new Set<number>();
  for (let at = pid; at > 0 && !found.has(at); at = lines.get(at)?.ppid ?? 0) found.add(at);
  return found;
}

/** `torpor attach` and its like. */
const isOwnCommand = ([, script = '']: readonly string[]) => script.endsWith('/torpor.mjs');

/** Pure: by the words of its command, options aside. */
function isWaitingShell([program = '', ...rest]: readonly string[]): boolean {
  const name = program.slice(program.lastIndexOf('/') + 1);
  return shell.test(name) && !rest.some((word) => !word.startsWith('-') || /^-[A-Za-z]*c$/.test(word));
}

async function readLine(pid: number): Promise<Line | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  // The name may have blanks and brackets in it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, ppid, group, session, terminal] = fields;
  if (state === 'Z') return undefined;
  return {
    pid,
    ppid: Number(ppid),
    group: Number(group),
    session: Number(session),
    terminal: Number(terminal),
    startedMs: (Number(fields[19]) / ticksPerSecond) * 1000,
  };
}

async function commandOf(pid: number): Promise<string[]> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return text.split('\0').filter((word, index, words) => word !== '' || index < words.length - 1);
}

const ownerOf = async (pid: number) => (await stat(`/proc/${pid}`).catch(() => undefined))?.uid;

async function uptimeMs(): Promise<number> {
  return Number.parseFloat(await readFile('/proc/uptime', 'utf8')) * 1000;
}
