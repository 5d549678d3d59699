/** What is saved at a power event, and in which time. */
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import type { PowerEvent, SessionSaveResult } from '../../api/types.ts';
import { savingTimeMs, sentencesOf } from '../../engine/shutdown/guard.ts';
import { isSavedAt, Policies, usualPolicy } from '../../engine/shutdown/policies.ts';
import { PowerEventSaver, type SaverParts } from '../../engine/shutdown/saver.ts';
import type { WorkloadRecord } from '../../engine/workload/record.ts';
import { silent } from '../support/store.ts';

describe('policies', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'torpor-policies-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it("are the user's own, else the machine's, else the usual one, field by field", async () => {
    const policies = await Policies.open(folder, silent);
    expect(policies.of(1000)).toEqual(usualPolicy);
    await policies.change(0, { machine: true, saveAt: ['reboot'], jobs: true });
    await policies.change(1000, { jobs: false });
    await Promise.all([
      policies.change(1000, { restoreAtLogin: true }),
      policies.change(1001, { saveAt: [] }),
    ]);
    const again = await Policies.open(folder, silent);
    expect(again.of(1000)).toEqual({ saveAt: ['reboot'], jobs: false, restoreAtLogin: true });
    expect(again.of(1001)).toEqual({ saveAt: [], jobs: true, restoreAtLogin: false });
    expect(again.of(0)).toEqual({ saveAt: ['reboot'], jobs: true, restoreAtLogin: false });
    expect((await stat(join(folder, 'policies.json'))).mode & 0o777).toBe(0o600);
  });

  it('that are damaged are put aside', async () => {
    await writeFile(join(folder, 'policies.json'), '{"version":1,"machine":{"jobs":"perhaps"}');
    expect((await Policies.open(folder, silent)).of(1000)).toEqual(usualPolicy);
    expect(await readdir(folder)).toEqual(['policies.json.damaged']);
  });

  it.each<[PowerEvent, boolean, boolean]>([
    ['reboot', true, false],
    ['power-off', false, false],
    ['low-battery', false, true],
    // Of which nobody knows what kind it is.
    ['shutdown', true, false],
  ])('at %s', (event, ofReboot, ofBattery) => {
    expect(isSavedAt({ ...usualPolicy, saveAt: ['reboot'] }, event)).toBe(ofReboot);
    expect(isSavedAt({ ...usualPolicy, saveAt: ['low-battery'] }, event)).toBe(ofBattery);
    expect(isSavedAt({ ...usualPolicy, saveAt: [] }, event)).toBe(false);
  });
});

it.each([
  [5000, 4500],
  [120_000, 115_000],
  [1000, 750],
  [100, 0],
])('of %d ms that the log-in manager waits, %d are for saving', (limit, saving) => {
  expect(savingTimeMs(limit)).toBe(saving);
});

it('says in one line what was not saved', () => {
  expect(sentencesOf('power-off', [{ name: 'a\nb', user: 'me', why: 'It has\u001b[31m a lock.' }])).toEqual([
    'Torpor: a b of me was not saved before the power-off: It has [31m a lock.',
  ]);
});

const uids: Record<string, number> = { me: 1000, you: 1001 };
const record = (id: string, kind: 'capsule' | 'job', user = 'me', status = 'running') =>
  ({
    id,
    name: id,
    kind,
    [kind]: { user: { uid: uids[user], name: user } },
    status: { kind: status },
  }) as unknown as WorkloadRecord;

describe('what is saved', () => {
  const suspended = (all: WorkloadRecord[], ids: readonly string[]) => {
    for (const [index, each] of all.entries())
      if (ids.includes(each.id)) all[index] = { ...each, status: { kind: 'suspended' } } as WorkloadRecord;
  };
  const saverOf = (all: WorkloadRecord[], engine: Partial<SaverParts['engine']>, of = () => usualPolicy) =>
    new PowerEventSaver({
      registry: { all: () => all, get: (id) => all.find((each) => each.id === id) },
      policies: { of } as SaverParts['policies'],
      engine: engine as SaverParts['engine'],
      log: silent,
    });
  const soon = () => Date.now() + 30_000;

  it('are capsules that run, and jobs where that was chosen', async () => {
    const all = [record('a', 'capsule'), record('b', 'job'), record('c', 'capsule', 'you', 'suspended')];
    const saveSession = vi.fn(async (_caller, _name, ids: readonly string[]) => {
      suspended(all, ids);
      return { left: [] } as unknown as SessionSaveResult;
    });
    const saver = saverOf(all, { saveSession });
    expect(await saver.save('reboot', soon())).toEqual({ saved: ['a'], unsaved: [] });
    expect(saveSession).toHaveBeenCalledWith({ uid: 0 }, 'reboot', ['a'], {
      ...{ leaveRunning: false, partial: true, replace: true, reason: 'reboot' },
    });
    // The job is left, which nobody wants.
    expect(saver.hasWork).toBe(false);
    const withJobs = saverOf(all, { saveSession }, () => ({ ...usualPolicy, jobs: true }));
    expect(withJobs.hasWork).toBe(true);
    expect(await withJobs.save('power-off', soon())).toEqual({ saved: ['b'], unsaved: [] });
  });

  it('is by itself what cannot be saved together, and is brought back with all else', async () => {
    const all = [record('a', 'capsule'), record('b', 'capsule')];
    const resume = vi.fn();
    const saver = saverOf(all, {
      saveSession: () => Promise.reject(new TorporError('failed', 'b is just being ended.')),
      suspend: async (_caller, id) => {
        if (id === 'b') throw new TorporError('failed', 'b is just being ended.');
        suspended(all, [id]);
        return undefined as never;
      },
      resume,
    });
    expect(await saver.save('reboot', soon())).toEqual({
      saved: ['a'],
      unsaved: [{ name: 'b', user: 'me', why: 'b is just being ended.' }],
    });
    await saver.restore();
    await saver.restore();
    expect(resume.mock.calls).toEqual([[{ uid: 0 }, 'a', { copy: false }]]);
  });

  it('is brought back after a shutdown that was cancelled, also what was late', async () => {
    const all = [record('a', 'capsule')];
    const restoreSession = vi.fn(async () => ({ left: [] }) as never);
    let end = () => {};
    const saver = saverOf(all, {
      saveSession: () =>
        new Promise((resolve) => {
          end = () => resolve({ left: [] } as unknown as SessionSaveResult);
        }),
      restoreSession,
    });
    await saver.save('reboot', Date.now() + 50);
    const restored = saver.restore();
    end();
    await restored;
    expect(restoreSession.mock.calls).toEqual([[{ uid: 0 }, 'reboot', {}]]);
  });

  it('is said at the deadline, and is waited for by whoever ends the engine', async () => {
    const all = [record('a', 'capsule')];
    let end = () => {};
    const saver = saverOf(all, {
      saveSession: () =>
        new Promise((resolve) => {
          end = () => {
            suspended(all, ['a']);
            resolve({ left: [] } as unknown as SessionSaveResult);
          };
        }),
    });
    expect(await saver.save('reboot', Date.now() + 50)).toEqual({
      saved: [],
      unsaved: [{ name: 'a', user: 'me', why: 'There was not enough time for it.' }],
    });
    let isFinished = false;
    const finished = saver.finished.then(() => {
      isFinished = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isFinished).toBe(false);
    end();
    await finished;
  });
});
