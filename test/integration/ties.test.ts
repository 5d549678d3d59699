/**
 * The inspection never lies: for every kind of tie, what it says is compared with what a real suspend and resume then
 * does. What is handled works afterwards; what is degraded differs as it says; what blocks is refused, and CRIU, called in
 * spite of that, fails or loses something.
 */
import { spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { TestEngine } from '../support/engine.ts';
import { type TieKind, tieKinds } from '../support/tie-kinds.ts';
import { canTry, keeperCommand, type Outcome, Place, tryInCapsule, tryTree } from '../support/ties.ts';

/** Said of every tree; and what one kind cannot be had without. */
const ofAll = new Set(['disk', 'memory', 'pid']);
const besides: Readonly<Record<string, readonly string[]>> = {
  MemfdOutside: ['memory-file'],
  HugeMemfd: ['memory-file'],
  MemfdSecret: ['locked-memory'],
  SeccompListener: ['seccomp'],
  Replaced: ['deleted-file'],
  FilePassedIn: ['shared-position'],
  AlarmClock: ['timer'],
};

function compare(outcome: Outcome): void {
  const { kind, findings } = outcome;
  const said = findings.filter(
    ({ tie, pid }) => !ofAll.has(tie) && (pid !== undefined || tie === kind.finding?.tie),
  );
  if (kind.finding === undefined) {
    expect(said).toEqual([]);
    expect(outcome).toMatchObject({ result: 'works' });
    return;
  }
  const { tie, verdict, what } = kind.finding;
  expect(said).toContainEqual(expect.objectContaining({ tie, verdict, what: expect.stringMatching(what) }));
  const others = said.filter((each) => each.tie !== tie && !besides[kind.kind]?.includes(each.tie));
  expect(others).toEqual([]);
  for (const { verdict: each, by, hint } of said) {
    expect(by === '').toBe(each === 'blocking');
    if (each !== 'handled') expect(hint).not.toBe('');
  }
  if (verdict !== 'blocking') expect(said.filter((each) => each.verdict === 'blocking')).toEqual([]);
  switch (verdict) {
    case 'handled':
      expect(outcome).toMatchObject({ result: 'works' });
      break;
    case 'degraded':
      if (kind.difference === undefined) expect(outcome).toMatchObject({ result: 'works' });
      else expect(outcome).toMatchObject({ result: 'differs', how: expect.stringMatching(kind.difference) });
      break;
    case 'blocking':
      // Nothing is blocked needlessly.
      expect(outcome.result).not.toBe('works');
      if (kind.difference !== undefined)
        expect(outcome).toMatchObject({ result: 'differs', how: expect.stringMatching(kind.difference) });
      break;
  }
}

const nameOf = ({ kind, words, finding }: TieKind) => ({
  kind,
  words,
  verdict: finding?.verdict ?? 'nothing to say',
});
const isBlocking = ({ finding }: TieKind) => finding?.verdict === 'blocking';

describe.skipIf(!canTry)('ties in a capsule', () => {
  const together = tieKinds.filter((kind) => kind.where === 'capsule' && !isBlocking(kind));
  const alone = tieKinds.filter((kind) => kind.where === 'capsule' && isBlocking(kind));
  const outcomes = new Map<TieKind, Outcome>();
  let engine: TestEngine;

  beforeAll(async () => {
    engine = await TestEngine.create();
    for (const outcome of await tryInCapsule(engine, together)) outcomes.set(outcome.kind, outcome);
  }, 400_000);
  afterAll(() => engine?.[Symbol.asyncDispose]());

  test.for(together.map((kind) => ({ ...nameOf(kind), of: kind })))('$words: $verdict', ({ of }, context) => {
    const outcome = outcomes.get(of);
    expect(outcome).toBeDefined();
    if (outcome === undefined) return;
    if (outcome.result === 'impossible') context.skip(`not to be had here: ${outcome.why}`);
    compare(outcome);
  });

  test.for(alone.map((kind) => ({ ...nameOf(kind), of: kind })))('$words: $verdict', async ({ of }) => {
    const [outcome] = await tryInCapsule(engine, [of]);
    expect(outcome).toBeDefined();
    if (outcome !== undefined) compare(outcome);
  });
});

describe.skipIf(!canTry)('a lock that another process has taken meanwhile', () => {
  test('is named before CRIU would wait for it, and the snapshot stays', async () => {
    await using engine = await TestEngine.create();
    await using place = await Place.make([]);
    const kind = tieKinds.find((each) => each.kind === 'Flock');
    if (kind === undefined) throw new Error('no such kind');
    const workload = await engine.start([...keeperCommand('Flock', place.folder)]);
    expect(await place.ready(kind)).toHaveProperty('pid');
    await engine.json('suspend', workload.id);
    const path = `${place.folder}/Flock.locked`;
    const other = spawn('flock', [path, 'sleep', '1000'], { stdio: 'ignore', detached: true });
    try {
      await vi.waitFor(
        () => expect(readFileSync('/proc/locks', 'utf8')).toContain(`:${statSync(path).ino} `),
        { timeout: 20_000 },
      );
      const error = await engine.failure(3, 'resume', workload.id);
      expect(error.message).toContain(`had locked ${path}, which `);
      expect(error.message).toContain(`(pid ${other.pid}) has locked now`);
      expect(error.message).toContain('is as it was');
      expect(error.hint).toMatch(/^End that process/);
    } finally {
      process.kill(-(other.pid ?? 0), 'SIGKILL');
    }
    await vi.waitFor(
      () => expect(readFileSync('/proc/locks', 'utf8')).not.toContain(`:${statSync(path).ino} `),
      { timeout: 20_000 },
    );
    await engine.json('resume', workload.id);
    expect(await place.check(kind)).toEqual({ works: true });
    await engine.json('end', workload.id);
  });
});

describe.skipIf(!canTry)('ties without a capsule', () => {
  const kinds = tieKinds.filter(({ where }) => where === 'tree');

  test.for(kinds.map((kind) => ({ ...nameOf(kind), of: kind })))(
    '$words: $verdict',
    async ({ of }, context) => {
      const outcome = await tryTree(of);
      if (outcome.result === 'impossible') context.skip(`not to be had here: ${outcome.why}`);
      compare(outcome);
    },
  );
});
