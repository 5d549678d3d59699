/**
 * Real applications that need a profile: started as an ordinary user by what Torpor knows of them, suspended, resumed and
 * used again, with what is kept of their sandboxes looked at from outside.
 */

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectRfb } from '../../api/rfb/client.ts';
import type { CapsuleWindow, Finding, Workload } from '../../api/types.ts';
import { TestEngine } from '../support/engine.ts';

/** A user that every Debian has and that nobody is. */
const ordinary = 'games';
const patient = { timeout: 60_000, interval: 500 };
/** What is typed into it becomes its title, which the capsule's window manager tells. */
const page =
  '<!doctype html><title>empty</title><textarea autofocus oninput="document.title = this.value || 1">';

let engine: TestEngine;
let home: string;
beforeAll(async () => {
  engine = await TestEngine.create();
  home = await mkdtemp('/var/tmp/torpor-home-');
  await writeFile(join(home, 'page.html'), page);
  await mkdir(join(home, 'firefox'));
  await promisify(execFile)('chown', ['-R', `${ordinary}:`, home]);
});
afterAll(async () => {
  await engine[Symbol.asyncDispose]();
  await rm(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
});

const options = () => ['--user', ordinary, '--env', `HOME=${home}`];

async function type(id: string, text: string): Promise<void> {
  const { screen } = await engine.workload(id);
  await using client = await connectRfb(screen ?? '');
  await client.type(text);
}

const titles = async (id: string) =>
  (await engine.json<CapsuleWindow[]>('windows', id)).map(({ title }) => title).join('\n');

interface SandboxedProcess {
  type: string;
  filters: number;
  words: string[];
}

/** The processes of Chromium in a capsule, with how many system call filters each has; the capsule's own is one. */
async function processesOf(id: string): Promise<SandboxedProcess[]> {
  const { pids } = await engine.workload(id);
  // What was forked off a zygote has its command line in one piece, with spaces.
  const read = async (pid: number): Promise<SandboxedProcess[]> => {
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split(/[\0 ]/);
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    const kind = words.find((word) => word.startsWith('--type='))?.slice('--type='.length);
    const filters = Number(/^Seccomp_filters:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    return kind === undefined ? [] : [{ type: kind, filters, words }];
  };
  return (await Promise.all(pids.map(read))).flat();
}

describe('Chromium', () => {
  const command = () => [
    ...['chromium', '--no-first-run', `--user-data-dir=${join(home, 'chromium')}`],
    // Where a keyring is installed it asks for a password of its own, over the page.
    '--password-store=basic',
    `file://${home}/page.html`,
  ];

  it('is not started before its user has agreed to what it gives up', async () => {
    const refused = await engine.failure(3, 'run', ...options(), '--', ...command());
    expect(refused).toMatchObject({
      code: 'blocked',
      hint: expect.stringContaining('--agree chromium-sandbox'),
    });
    expect(await engine.json<Workload[]>('ps')).toEqual([]);
  });

  it('keeps its system call filters, also over a suspend, and goes on', async () => {
    const { id } = await engine.start(command(), '--agree', 'chromium-sandbox', ...options());
    await expect.poll(() => titles(id), patient).toContain('empty');
    await expect
      .poll(async () => {
        await type(id, 'a');
        return titles(id);
      }, patient)
      .toMatch(/^a+ - Chromium/m);
    const before = await processesOf(id);
    const renderers = before.filter((each) => each.type === 'renderer');
    expect(renderers.length).toBeGreaterThan(0);
    for (const { filters } of renderers) expect(filters, 'the capsule’s filter and its own').toBe(2);
    expect(before.flatMap(({ words }) => words)).not.toContain('--no-sandbox');

    await engine.json('suspend', id);
    await engine.json('resume', id);
    // Lazily, with gigabytes of address space that it has only reserved.
    expect(await engine.logTail(400)).not.toContain('resumed eagerly after all');
    const after = (await processesOf(id)).filter((each) => each.type === 'renderer');
    expect(after.map(({ filters }) => filters)).toEqual(renderers.map(() => 2));
    await expect
      .poll(async () => {
        await type(id, 'b');
        return titles(id);
      }, patient)
      .toMatch(/^a+b+ - Chromium/m);
    await engine.run(['end', id]);
  });

  it('as root runs without its sandbox, or with consent to that', async () => {
    expect(await engine.failure(3, 'run', '--', 'chromium')).toMatchObject({
      hint: expect.stringContaining('--agree chromium-no-sandbox'),
    });
  });
});

describe.skipIf(!existsSync('/usr/bin/firefox-esr'))('Firefox', () => {
  it('keeps the filters of its content processes without being asked anything', async () => {
    const { id, profiles } = await engine.start(
      ['firefox-esr', '--no-remote', '--profile', join(home, 'firefox'), `file://${home}/page.html`],
      ...options(),
    );
    expect(profiles).toEqual(['mozilla']);
    await expect.poll(() => titles(id), patient).toContain('empty');
    const filters = async () => {
      const { pids } = await engine.workload(id);
      const texts = await Promise.all(
        pids.map((pid) => readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')),
      );
      return texts.filter((text) => /^Seccomp_filters:\s+[2-9]/m.test(text)).length;
    };
    await expect.poll(filters, patient).toBeGreaterThan(1);
    await engine.json('suspend', id);
    await engine.json('resume', id);
    expect(await filters()).toBeGreaterThan(1);
    await engine.run(['end', id]);
  });
});

describe.skipIf(!existsSync('/usr/lib/libreoffice/program/swriter'))('LibreOffice', () => {
  const text = `<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
  xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" office:version="1.2"
  office:mimetype="application/vnd.oasis.opendocument.text">
  <office:body><office:text><text:p>Letter</text:p></office:text></office:body></office:document>`;

  it('leaves its document marked, and who opens it meanwhile is told of', async () => {
    const document = join(home, 'letter.fodt');
    const mark = join(home, '.~lock.letter.fodt#');
    await writeFile(document, text);
    await promisify(execFile)('chown', [`${ordinary}:`, document]);
    const { id } = await engine.start(['libreoffice', '--norestore', '--writer', document], ...options());
    await expect.poll(() => existsSync(mark), patient).toBe(true);
    await expect.poll(() => titles(id), patient).toContain('letter.fodt');
    const { findings } = await engine.json<{ findings: Finding[] }>('suspend', id);
    expect(findings).toContainEqual(
      expect.objectContaining({
        tie: 'document-lock',
        verdict: 'handled',
        what: expect.stringContaining(document),
      }),
    );
    await writeFile(mark, ',ada,engine,21.11.2026 13:00,file:///home/ada;');
    const resumed = await engine.json<{ findings: Finding[] }>('resume', id);
    expect(resumed.findings).toContainEqual(
      expect.objectContaining({
        tie: 'document-lock',
        verdict: 'degraded',
        what: expect.stringContaining('by ada on engine'),
      }),
    );
    await engine.run(['end', id]);
  });
});
