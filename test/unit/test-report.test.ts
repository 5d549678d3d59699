/** What scripts/test.sh makes of vitest's reports: what fails twice has failed, what passes the second time is named. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';

const root = new URL('../..', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'torpor-report-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Files = Record<string, Record<string, 'passed' | 'failed'>>;

/** A report of files with tests and what became of them. @returns its path */
function report(name: string, files: Files): string {
  const path = join(folder, name);
  const testResults = Object.entries(files).map(([file, tests]) => {
    const assertionResults = Object.entries(tests).map(([fullName, status]) => ({ fullName, status }));
    const isGood = assertionResults.length > 0 && !Object.values(tests).includes('failed');
    return { name: join(root, file), status: isGood ? 'passed' : 'failed', assertionResults };
  });
  writeFileSync(path, JSON.stringify({ testResults }));
  return path;
}

function run(...args: string[]): { printed: string; told: string } {
  const { stdout, stderr } = spawnSync('npx', ['tsx', 'scripts/test-report.ts', ...args], {
    cwd: root,
    encoding: 'utf8',
  });
  const told = stderr.split('\n').filter((line) => line.startsWith('test: '));
  return { printed: stdout.trim(), told: told.join('\n') };
}

const first = report('first.json', {
  'good.test.ts': { one: 'passed', two: 'passed' },
  'bad.test.ts': { always: 'failed', 'at times': 'failed', never: 'passed' },
  'unloaded.test.ts': {},
});

it('names the files that failed, and those that could not be loaded', () => {
  expect(run('failed', first)).toEqual({ printed: 'bad.test.ts\nunloaded.test.ts', told: '' });
  expect(run('count', first)).toEqual({ printed: '3 3', told: '' });
});

it('counts the second time, and names what passed only then', () => {
  const second = report('second.json', {
    'bad.test.ts': { always: 'failed', 'at times': 'passed', never: 'passed' },
    'unloaded.test.ts': { three: 'passed' },
  });
  const { printed, told } = run('count', first, second);
  expect(printed).toBe('5 1');
  expect(told).toBe(
    'test: passed only the second time: bad.test.ts: at times\ntest: passed only the second time: unloaded.test.ts: its loading',
  );
});

it('counts a report that is missing or cut short as a failure', () => {
  const cut = join(folder, 'cut.json');
  writeFileSync(cut, '{"testResults": [');
  for (const path of [cut, join(folder, 'none.json')]) {
    const { printed, told } = run('count', path);
    expect(printed).toBe('0 1');
    expect(told).toContain('vitest left no readable report');
  }
});
