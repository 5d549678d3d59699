/**
 * Small text files that users and packages put into a folder: profiles, plugins. What lies in a user's folder is read
 * with that user's rights alone, since it is theirs to choose: links, devices and all.
 */
import { constants } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { User } from '../capsule/users.ts';
import { identityOptions, runCommand } from '../command.ts';

const userReadLimitMs = 5000;

/** Which files of a folder are read, and how much of them: one byte more than the largest, so that it can be told. */
export interface SettingsFiles {
  /** What their names end with, after the dot. */
  endings: readonly string[];
  mostFiles: number;
  /** In bytes. */
  largestFile: number;
}

export interface FileText {
  /** Its path. */
  file: string;
  text: string;
}

const isMeant = (name: string, { endings }: SettingsFiles) =>
  !name.startsWith('.') && endings.some((ending) => name.endsWith(`.${ending}`));

/** The files of a folder that only root writes to, by name; none where it is not there. */
export async function readSettings(folder: string, files: SettingsFiles): Promise<FileText[]> {
  const names = (await readdir(folder).catch(() => [])).filter((name) => isMeant(name, files)).sort();
  const texts = await Promise.all(
    names.slice(0, files.mostFiles).map(async (name) => {
      const file = join(folder, name);
      return { file, text: await readStart(file, files.largestFile + 1) };
    }),
  );
  return texts.filter((each): each is FileText => each.text !== undefined);
}

async function readStart(path: string, bytes: number): Promise<string | undefined> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  try {
    if (!(await file?.stat())?.isFile()) return undefined;
    const { buffer, bytesRead } = (await file?.read(Buffer.alloc(bytes))) ?? {};
    return buffer?.toString('utf8', 0, bytesRead);
  } finally {
    await file?.close();
  }
}

/** Prints name and contents of every file, in base64, which no contents can confuse. */
const printer = ({ endings, mostFiles, largestFile }: SettingsFiles) => `cd -- "$1" 2>/dev/null || exit 0
count=0
for file in ${endings.map((ending) => `*.${ending}`).join(' ')}; do
  [ -f "$file" ] && [ "$count" -lt ${mostFiles} ] || continue
  count=$((count + 1))
  printf '%s' "$file" | base64 -w0
  printf ' '
  head -c ${largestFile + 1} -- "$file" | base64 -w0
  printf '\\n'
done`;

/** The same of a folder of the user's, as that user. */
export async function readSettingsAs(
  user: Pick<User, 'uid' | 'gid' | 'groups'>,
  folder: string,
  files: SettingsFiles,
): Promise<FileText[]> {
  const command = ['sh', '-c', printer(files), 'sh', folder];
  const { stdout } = await runCommand('setpriv', [...identityOptions(user), '--', ...command], {
    env: { PATH: '/usr/bin:/bin' },
    timeoutMs: userReadLimitMs,
    killSignal: 'SIGKILL',
    ownSession: true,
  });
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [name = '', text = ''] = line
        .split(' ')
        .map((each) => Buffer.from(each, 'base64').toString('utf8'));
      return { file: join(folder, name), text, name };
    })
    .filter(({ name }) => isMeant(name, files))
    .map(({ file, text }) => ({ file, text }));
}
