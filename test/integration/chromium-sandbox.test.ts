/** The library that stands in for Chromium's sandbox helper, asked what Chromium asks the helper. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const execute = promisify(execFile);
const library = new URL('../../build/native/libtorpor-chromium-sandbox.so', import.meta.url).pathname;
const env = { ...process.env, LD_PRELOAD: library, SBX_D: undefined, SBX_HELPER_PID: undefined };
const python = async (code: string) => (await execute('python3', ['-c', code], { env })).stdout.trim();

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/torpor-chromium-');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** As programs look at files that were built with a glibc of today, and with one before 2.33, as Electron's are. */
const looker = `
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int old_stat(int, const char *, struct stat64 *);
__asm__(".symver old_stat, __xstat64@OLD_VERSION");
int main(int count, char **paths)
{
	for (int index = 1; index < count; index++) {
		struct stat64 old = {0}, now = {0};
		int is_old = old_stat(1, paths[index], &old), is_now = stat64(paths[index], &now);
		printf("%d %d %o %o %d %d\\n", is_old, is_now, old.st_mode, now.st_mode, (int)old.st_uid, access(paths[index], X_OK));
	}
}
`;

describe('the helper that is not there', () => {
  it('is seen as root’s and set-user-id, wherever it is looked for, and every other file as it is', async () => {
    const version = process.arch === 'arm64' ? 'GLIBC_2.17' : 'GLIBC_2.2.5';
    await writeFile(join(folder, 'look.c'), looker.replace('OLD_VERSION', version));
    await writeFile(join(folder, 'plain'), '', { mode: 0o640 });
    await execute('gcc', ['-o', join(folder, 'look'), join(folder, 'look.c')]);
    const paths = [
      '/opt/any/chrome-sandbox',
      join(folder, 'plain'),
      '/no/such/file',
      '/opt/not-chrome-sandbox',
    ];
    const { stdout } = await execute(join(folder, 'look'), paths, { env });
    expect(stdout.trim().split('\n')).toEqual([
      '0 0 104755 104755 0 0',
      `0 0 100640 100640 ${process.getuid?.()} -1`,
      '-1 -1 0 0 0 -1',
      '-1 -1 0 0 0 -1',
    ]);
  });

  it('starts what it is given, answers it once, and ends', async () => {
    const zygote = [
      'import os',
      'fd = int(os.environ["SBX_D"])',
      'os.write(fd, b"C")',
      'ended = os.waitpid(int(os.environ["SBX_HELPER_PID"]), 0)[1]',
      'answer = os.read(fd, 10)',
      'rest = os.read(fd, 10)',
      'try: opened = bool(open("/proc/self/exe"))',
      'except PermissionError: opened = False',
      'print(ended, answer, rest, opened, os.environ["SBX_CHROME_API_PRV"], os.environ["KEPT"])',
    ].join('\n');
    const browser = `
import os, sys
os.environ["KEPT"] = "kept"
os.environ["SBX_OLD"] = "old"
os.execv("/opt/any/chrome-sandbox", ["/opt/any/chrome-sandbox", sys.executable, "-c", ${JSON.stringify(zygote)}])
`;
    expect(await python(browser)).toBe("0 b'O' b'' False 1 kept");
  });

  it('says which version of the protocol it speaks, and does nothing else that it is asked', async () => {
    const ask = (option: string) =>
      `import os\nos.execv("/x/chrome-sandbox", ["/x/chrome-sandbox", "${option}"])`;
    expect(await python(ask('--get-api'))).toBe('1');
    expect(await python(ask('--adjust-oom-score'))).toBe('');
  });

  it('is in nobody else’s way', async () => {
    const code =
      'import os, subprocess\nprint(open("/proc/self/exe", "rb").read(4)[1:], subprocess.run(["echo", "run"], capture_output=True).stdout, os.path.exists("/no/chrome"))';
    expect(await python(code)).toBe("b'ELF' b'run\\n' False");
  });
});
