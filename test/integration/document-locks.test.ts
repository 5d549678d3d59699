/** Documents that an application marks as its own while it is suspended, and what others do about the mark meanwhile. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Finding, ResumeResult, SuspendResult } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';

/** Opens a document and marks it as LibreOffice does. */
const editor = `
import sys, time
path = sys.argv[1]
folder, name = path.rsplit('/', 1)
document = open(path, 'r+')
open(folder + '/.~lock.' + name + '#', 'w').write(',me,here,21.11.2026 12:00,file:///home/me/.config;')
open(folder + '/ready', 'w').close()
while True: time.sleep(1)
`;

let engine: TestEngine;
let folder: string;
let document: string;
let mark: string;
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/torpor-locks-');
  document = join(folder, 'letter, with comma.odt');
  mark = join(folder, '.~lock.letter, with comma.odt#');
  await writeFile(join(folder, 'editor.py'), editor);
  // LibreOffice's own profile is what tells the marks' names.
  await writeFile(join(folder, 'soffice'), `#!/bin/sh\nexec python3 ${folder}/editor.py "$@"\n`, {
    mode: 0o755,
  });
  engine = await TestEngine.create();
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const aboutLocks = (findings: Finding[]) => findings.filter(({ tie }) => tie === 'document-lock');

/** What a resume says after something was done to the mark. */
async function afterwards(meanwhile: () => Promise<void>): Promise<{ before: Finding[]; after: Finding[] }> {
  await writeFile(document, 'text');
  await rm(join(folder, 'ready'), { force: true });
  const { id } = await engine.start([join(folder, 'soffice'), document]);
  await expect.poll(() => readFile(join(folder, 'ready')).catch(() => undefined)).toBeDefined();
  const { findings: before } = await engine.json<SuspendResult>('suspend', id);
  await meanwhile();
  const { findings: after } = await engine.json<ResumeResult>('resume', id);
  await engine.run(['end', id]);
  return { before: aboutLocks(before), after: aboutLocks(after) };
}

it('a suspend says that the document stays marked, and a resume nothing where it did', async () => {
  const { before, after } = await afterwards(async () => {});
  expect(before).toMatchObject([{ verdict: 'handled', what: expect.stringContaining(document) }]);
  expect(after).toEqual([]);
});

it('a mark that was taken away is told', async () => {
  const { after } = await afterwards(() => rm(mark));
  expect(after).toMatchObject([{ verdict: 'degraded', what: expect.stringMatching(/taken away/) }]);
});

it('a document that somebody else has opened is told, with who it was', async () => {
  const { after } = await afterwards(() =>
    writeFile(mark, 'Ada Lovelace,ada,engine,21.11.2026 13:00,file:///x;'),
  );
  expect(after).toMatchObject([
    {
      verdict: 'degraded',
      what: `${document} was opened elsewhere while it was suspended, by Ada Lovelace on engine.`,
    },
  ]);
});

it('whatever else is in a mark is not shown', async () => {
  const { after } = await afterwards(() => writeFile(mark, `\u001b[31m,\u0007,${'x'.repeat(500)}`));
  expect(after).toMatchObject([{ what: `${document} was opened elsewhere while it was suspended.` }]);
});
