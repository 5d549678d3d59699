/** What a restore must put into place by hand: files that were deleted while open, and what CRIU's images say oddly. */
import { execFileSync } from 'node:child_process';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { TestEngine } from '../support/engine.ts';

let engine: TestEngine;
let folder: string;

beforeAll(async () => {
  engine = await TestEngine.create();
  folder = await mkdtemp('/var/tmp/torpor-deleted-');
});
afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** Waits until it has reported once more, and returns what it says. */
async function nextReport(file: string): Promise<string> {
  await rm(file, { force: true });
  return vi.waitFor(
    async () => {
      const text = await readFile(file, 'utf8');
      if (!text.endsWith('\n')) throw new Error('it has not reported');
      return text.trim();
    },
    { timeout: 30_000, interval: 50 },
  );
}

/** Holds a deleted file and says again and again what is in it. */
const holder = `import os, sys, time
path, words, report = sys.argv[1:]
file = open(path, "w+")
file.write(words)
file.flush()
os.unlink(path)
while True:
    file.seek(0)
    said = file.read()
    with open(report + ".new", "w") as out: out.write(said + "\\n")
    os.rename(report + ".new", report)
    time.sleep(0.1)
`;

it('four that had a deleted file of the same name are resumed at once, each with its own', async () => {
  const program = join(folder, 'holder.py');
  await writeFile(program, holder);
  const words = ['one', 'two', 'three', 'four'];
  const reports = words.map((word) => join(folder, word));
  const ids: string[] = [];
  for (const [index, word] of words.entries()) {
    const command = ['/usr/bin/python3', program, join(folder, 'same-name'), word, reports[index] ?? ''];
    const { id } = await engine.start(command, '--name', word);
    expect(await nextReport(reports[index] ?? '')).toBe(word);
    ids.push(id);
  }
  for (let round = 0; round < 3; round++) {
    for (const id of ids) await engine.json('suspend', id);
    await Promise.all(ids.map((id) => engine.json('resume', id)));
    expect(await Promise.all(reports.map(nextReport))).toEqual(words);
  }
});

/** Has children that have ended and that it does not reap, and a log that it appends to. */
const neglectful = `import os, sys, time
log = open(sys.argv[1], "a")
for _ in range(40):
    if os.fork() == 0: os._exit(0)
while True:
    with open(sys.argv[2], "w") as out: out.write("there\\n")
    time.sleep(0.1)
`;

it('one with forty children that it has not reaped is resumed, also when a file of it was changed', async () => {
  const program = join(folder, 'neglectful.py');
  const [log, report] = [join(folder, 'log'), join(folder, 'report')];
  await writeFile(program, neglectful);
  const { id } = await engine.start(['/usr/bin/python3', program, log, report]);
  expect(await nextReport(report)).toBe('there');
  for (let round = 0; round < 3; round++) {
    await engine.json('suspend', id);
    await appendFile(log, 'from somebody else\n');
    await engine.json('resume', id);
    expect(await nextReport(report)).toBe('there');
  }
});

it('what waits for a child that it has made by vfork is suspended all the same', async () => {
  const source = join(folder, 'vfork.c');
  const program = join(folder, 'vfork');
  await writeFile(
    source,
    `#define _GNU_SOURCE
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **arguments)
{
	for (;;) {
		pid_t child = vfork();
		if (child == 0) { usleep(5000); _exit(0); }
		waitpid(child, NULL, 0);
		FILE *out = fopen(arguments[1], "w");
		if (out) { fputs("there\\n", out); fclose(out); }
		usleep(45000);
	}
}
`,
  );
  execFileSync('gcc', ['-o', program, source]);
  const report = join(folder, 'vfork.report');
  const { id } = await engine.start([program, report]);
  for (let round = 0; round < 6; round++) {
    await engine.json('suspend', id);
    await engine.json('resume', id);
    expect(await nextReport(report)).toBe('there');
  }
});
