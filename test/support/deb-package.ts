/**
 * A package of a test's own, with a program and a library that say their versions, installed on this machine by the real
 * dpkg and purged afterwards.
 */
import { execFile, execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Says "PROGRAM LIBRARY", the versions of both, again and again at the end of a file; once where it is given none. */
const programSource = (version: number) => `
#include <stdio.h>
#include <unistd.h>
int library_version(void);
int main(int argc, char **argv)
{
	FILE *said = argc > 1 ? fopen(argv[1], "a") : stdout;
	for (;;) {
		fprintf(said, "%d %d\\n", ${version}, library_version());
		fflush(said);
		if (argc < 2)
			return 0;
		usleep(50000);
	}
}
`;

export class DebPackage implements AsyncDisposable {
  readonly name = `torpor-test-${randomBytes(4).toString('hex')}`;
  /** Where it is installed. */
  readonly folder = `/usr/lib/${this.name}`;
  readonly program = join(this.folder, 'teller');
  readonly library = join(this.folder, 'libteller.so.1');
  readonly #work: string;
  readonly #programMode: number;

  private constructor(work: string, programMode: number) {
    this.#work = work;
    this.#programMode = programMode;
  }

  static async create(programMode = 0o755): Promise<DebPackage> {
    return new DebPackage(await mkdtemp('/var/tmp/torpor-deb-'), programMode);
  }

  /** Builds it, once for each version. @returns the path of the .deb. */
  async build(version: number, { withLibrary = true } = {}): Promise<string> {
    const deb = join(this.#work, `${version}.deb`);
    if (existsSync(deb)) return deb;
    const root = join(this.#work, `root-${version}`);
    const folder = join(root, this.folder);
    for (const each of [join(root, 'DEBIAN'), folder]) await mkdir(each, { recursive: true, mode: 0o755 });
    const control = [
      ...[`Package: ${this.name}`, `Version: ${version}`, 'Architecture: all', 'Maintainer: Torpor'],
      'Description: of a test of Torpor, which removes it again',
    ];
    await writeFile(join(root, 'DEBIAN/control'), `${control.join('\n')}\n`);
    const library = join(folder, 'libteller.so.1');
    const compile = (input: string, ...options: string[]) =>
      execFileSync('gcc', ['-x', 'c', '-', ...options], { input });
    compile(
      `int library_version(void) { return ${version}; }`,
      '-shared',
      '-fPIC',
      '-o',
      library,
      '-Wl,-soname,libteller.so.1',
    );
    const program = join(folder, 'teller');
    compile(
      programSource(version),
      ...['-o', program, `-Wl,-rpath,${this.folder}`, `-L${folder}`, '-l:libteller.so.1'],
    );
    await chmod(program, this.#programMode);
    if (!withLibrary) await rm(library);
    await run('dpkg-deb', ['--root-owner-group', '--build', root, deb]);
    return deb;
  }

  /** Installs a version; `hook` is called by dpkg before. @returns what dpkg said. */
  async install(version: number, hook = 'true', options = {}): Promise<string> {
    return this.#dpkg(hook, '--install', await this.build(version, options));
  }

  /** SHA-256 of the program and the library of a version. */
  async hashes(version: number): Promise<string[]> {
    const folder = join(this.#work, `root-${version}`, this.folder);
    await this.build(version);
    const contents = [join(folder, 'teller'), join(folder, 'libteller.so.1')].map((path) => readFile(path));
    return (await Promise.all(contents)).map((each) => createHash('sha256').update(each).digest('hex'));
  }

  async #dpkg(hook: string, ...args: string[]): Promise<string> {
    for (let round = 0; ; round++) {
      try {
        const { stdout, stderr } = await run('dpkg', [`--pre-invoke=${hook}`, ...args]);
        return stdout + stderr;
      } catch (error) {
        // Somebody else on this machine installs something.
        if (!/lock/.test((error as { stderr: string }).stderr) || round === 60) throw error;
        await sleep(1000);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const isInstalled = await run('dpkg-query', ['--show', this.name]).catch(() => undefined);
    if (isInstalled !== undefined) await this.#dpkg('true', '--purge', this.name);
    await rm(this.#work, { recursive: true, force: true });
  }
}
