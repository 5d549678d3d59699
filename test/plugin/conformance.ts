/**
 * What every plugin has to keep, each rule a test whose name is the rule (docs/plugins.md). The engine is a real one, and
 * so are the application and the job; calls in an order or of a form that it takes bad luck to see are made directly.
 */
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PluginWorkload, pluginFindingLimit, pluginStateLimit } from '../../api/plugin-types.ts';
import type { Snapshot, Workload } from '../../api/types.ts';
import { isThere } from '../support/engine.ts';
import { callLimitMs, type DirectPlugin, operationLimitMs, Scene } from './scene.ts';
import type { Subject } from './subject.ts';
import type { Surroundings } from './surroundings.ts';

/** How long a program may take to end. */
const endLimitMs = 10_000;
/** How long the engine waits after SIGTERM; twice that on a busy machine. */
const termLimitMs = 4000;
const empty = new Uint8Array();

/**
 * @param prepare What there is for the plugin to do; without it, much of what a plugin must do cannot be seen.
 */
export function conformance(
  subject: Subject,
  prepare: () => Promise<Surroundings> = async () => ({ env: {} }),
): void {
  describe(`the plugin ${subject.entry.name}`, () => {
    let surroundings: Surroundings;
    let scene: Scene;
    beforeAll(async () => {
      surroundings = await prepare();
      scene = await Scene.create(subject, surroundings);
    });
    afterAll(async () => {
      await scene?.[Symbol.asyncDispose]();
      await surroundings?.dispose?.();
    });

    /** The workload that has work for the plugin, and has it now. */
    const busy = async () => {
      const workload = await scene.told(await scene.kind());
      return { workload, held: await scene.holding(workload) };
    };
    const calling = async (act: (plugin: DirectPlugin, workload: PluginWorkload) => Promise<void>) => {
      const { workload } = await busy();
      await using plugin = await scene.direct();
      await act(plugin, workload);
    };
    /** What a plugin says of a workload, and what can be seen of it from outside. */
    const look = async (plugin: DirectPlugin, workload: PluginWorkload) => ({
      findings: await plugin.call('inspect', workload),
      held: await scene.held(workload),
    });
    const holdsNothing = (workload: PluginWorkload, when: string) =>
      expect
        .poll(() => scene.held(workload), {
          timeout: callLimitMs,
          message: `${when} it still holds something.`,
        })
        .toBe('');
    const holdsAgain = (workload: PluginWorkload, held: string, when: string) =>
      expect
        .poll(() => scene.held(workload), {
          timeout: callLimitMs,
          message: `${when} it does not hold what it held.`,
        })
        .toBe(held);
    const isFor = async (kind: 'capsule' | 'job') => {
      await using plugin = await scene.direct();
      return (await plugin.call('describe', 1)).kinds.includes(kind);
    };

    it(`registers within ${operationLimitMs / 2000} s of its start, half of what a whole operation may take`, async () => {
      await scene.report();
      const log = await scene.log();
      const time = (msg: string) => Date.parse(log.find((line) => line.msg === msg)?.time ?? '');
      const took = (time('plugin registered') - time('plugin started')) / 1000;
      expect(took, `It took ${took} s.`).toBeLessThan(operationLimitMs / 2000);
    });

    it('describes itself by the schema, always in the same way, and to a later engine too', async () => {
      await using plugin = await scene.direct();
      const first = await plugin.call('describe', 1);
      expect(first.version, 'It speaks another version of the interface.').toBe(1);
      expect(await plugin.call('describe', 1), 'The second answer is another one.').toEqual(first);
      expect(await plugin.call('describe', 2), 'To a later engine it answers otherwise.').toEqual(first);
    });

    it('inspects by the schema, says the same again, and touches neither processes nor the run folder', () =>
      calling(async (plugin, workload) => {
        const before = await traces(workload);
        const first = await plugin.call('inspect', workload);
        expect(await plugin.call('inspect', workload), 'The second answer is another one.').toEqual(first);
        expect(await traces(workload), 'Something of the workload is not as it was.').toEqual(before);
        expect(first.length).toBeLessThanOrEqual(pluginFindingLimit);
      }));

    it('answers an inspection of a workload that has just ended', () =>
      calling(async (plugin, workload) => {
        await plugin.survives('inspect', { ...workload, id: 'gone00', pids: [] });
      }));

    it('lets go in PreSuspend of all that is held, and an Abort brings it back', async ({ skip }) => {
      skip(!scene.seesWhatIsHeld, 'nothing was given that shows what the application holds, see --held');
      await calling(async (plugin, workload) => {
        const before = await look(plugin, workload);
        const state = await plugin.call('preSuspend', workload);
        await holdsNothing(workload, 'After PreSuspend');
        await plugin.call('abort', workload, state);
        await settles(() => look(plugin, workload), before);
      });
    });

    it('does its part in a suspend and a resume of an application', async ({ skip }) => {
      skip(!(await isFor('capsule')), 'it is not for applications');
      const { workload, held } = await busy();
      await scene.operate<Snapshot>('suspend', workload.id);
      await holdsNothing(workload, 'While it is suspended');
      expect((await scene.operate<Workload>('resume', workload.id)).state).toBe('running');
      await holdsAgain(workload, held, 'After the resume');
    });

    it('does its part in a suspend and a resume of a job', async ({ skip }) => {
      skip(!(await isFor('job')), 'it is not for jobs');
      const { workload } = await scene.operate<Snapshot>('suspend', `${await scene.typeJob()}`);
      expect((await scene.operate<Workload>('resume', workload)).state).toBe('running');
      await scene.operate('end', workload);
    });

    it('does its part for several workloads at once', async ({ skip }) => {
      skip(!(await isFor('capsule')) || !(await isFor('job')), 'it is for one kind only');
      const { workload, held } = await busy();
      const ids = [workload.id, (await scene.workload('job')).id];
      await scene.operate('suspend', ...ids);
      await scene.operate('resume', ...ids);
      await holdsAgain(workload, held, 'After the resume');
    });

    it('is called for several workloads at the same moment without mixing them up', async () => {
      const { workload } = await busy();
      const workloads = [workload, await scene.another()];
      await using plugin = await scene.direct();
      const lookAtAll = async () => ({
        findings: await Promise.all(workloads.map((each) => plugin.call('inspect', each))),
        held: await scene.held(workload),
      });
      const before = await lookAtAll();
      const states = await Promise.all(workloads.map((each) => plugin.call('preSuspend', each)));
      await Promise.all(workloads.map((each, index) => plugin.call('abort', each, states[index] ?? empty)));
      await settles(lookAtAll, before);
    });

    it(`gives a state of at most ${pluginStateLimit / 1024} KiB, by which Abort undoes a suspend`, () =>
      calling(async (plugin, workload) => {
        const before = await look(plugin, workload);
        const state = await plugin.call('preSuspend', workload);
        expect(state.length).toBeLessThanOrEqual(pluginStateLimit);
        await plugin.call('abort', workload, state);
        await settles(() => look(plugin, workload), before);
      }));

    it('undoes a suspend also where its state has not reached the engine', () =>
      calling(async (plugin, workload) => {
        const before = await look(plugin, workload);
        await plugin.call('preSuspend', workload);
        await plugin.call('abort', workload, empty);
        await settles(() => look(plugin, workload), before);
      }));

    it('goes on after a suspend that leaves the application running', async ({ skip }) => {
      skip(!(await isFor('capsule')), 'it is not for applications');
      const { workload, held } = await busy();
      await scene.operate('suspend', '--leave-running', workload.id);
      await holdsAgain(workload, held, 'After a suspend that left it running');
      await using plugin = await scene.direct();
      await plugin.isAlive('after a suspend that left the application running');
    });

    it('takes an Abort without a PreSuspend before it', () =>
      calling(async (plugin, workload) => {
        const before = await look(plugin, workload);
        await plugin.call('abort', workload, empty);
        await settles(() => look(plugin, workload), before);
      }));

    it('undoes a resume that has failed, and can do it again', () =>
      calling(async (plugin, workload) => {
        const before = await look(plugin, workload);
        const state = await plugin.call('preSuspend', workload);
        const resuming = { ...workload, pids: [], snapshot: 'conformance' };
        await plugin.call('postResume', resuming, state);
        await holdsAgain(workload, before.held, 'After PostResume');
        await plugin.call('abort', resuming, state);
        await holdsNothing(workload, 'After the Abort of a resume');
        await plugin.call('postResume', resuming, state);
        await settles(() => look(plugin, workload), before);
      }));

    it('answers the same call twice, since the engine asks once more where an answer got lost', () =>
      calling(async (plugin, workload) => {
        const before = await look(plugin, workload);
        await plugin.call('preSuspend', workload);
        const state = await plugin.call('preSuspend', workload);
        await holdsNothing(workload, 'After the second PreSuspend');
        const resuming = { ...workload, pids: [], snapshot: 'conformance' };
        await plugin.call('postResume', resuming, state);
        await plugin.call('postResume', resuming, state);
        await settles(() => look(plugin, workload), before);
        const again = await plugin.call('preSuspend', workload);
        await plugin.call('abort', workload, again);
        await plugin.call('abort', workload, again);
        await settles(() => look(plugin, workload), before);
      }));

    it('answers a PostResume with an empty state, which it gets where its PreSuspend had failed', () =>
      calling(async (plugin, workload) => {
        await plugin.survives('postResume', { ...workload, pids: [], snapshot: 'conformance' }, empty);
      }));

    it.each<[string, Uint8Array]>([
      ['that is no text', new Uint8Array(1000).map((_, index) => (index * 151) % 256)],
      ['of zeros, as large as can be', new Uint8Array(pluginStateLimit)],
      ['that is a text of something else', Buffer.from('{"version":99,"what":["../../etc/passwd"]}')],
      ['that is cut off', Buffer.from('[{"')],
    ])('answers a PostResume and an Abort with a state %s, by an error where it likes', (_, state) =>
      calling(async (plugin) => {
        const stranger = { ...(await scene.another()), id: 'conformance', pids: [] };
        await plugin.survives('postResume', { ...stranger, snapshot: 'conformance' }, state);
        await plugin.survives('abort', stranger, state);
      }),
    );

    it('does not mind keys of a workload that it does not know, nor the absence of those that are optional', () =>
      calling(async (plugin, workload) => {
        const { runFolder: _, ...rest } = workload;
        const more = { ...workload, future: 'x', 'later-still': { deep: ['a', 'b'] }, number: 1.5 };
        const expected = await plugin.call('inspect', workload);
        expect(await plugin.call('inspect', more)).toEqual(expected);
        await plugin.call('abort', workload, await plugin.call('preSuspend', more));
        await plugin.survives('inspect', rest);
      }));

    it('answers a call that the interface does not have by an error', () =>
      calling(async (plugin) => {
        expect(await plugin.refuses('Inspect', 's', ['what?']), 'Inspect of a text was no error.').toBe(true);
        expect(await plugin.refuses('Dance', '', []), 'An unknown method was no error.').toBe(true);
        await plugin.isAlive('after calls that the interface does not have');
      }));

    it('resumes by what is in the state alone: its program is another one after the engine was killed', async ({
      skip,
    }) => {
      skip(!(await isFor('capsule')), 'it is not for applications');
      // A new engine may start it for what runs before it knows the session of anybody.
      await scene.endOthers();
      const { workload, held } = await busy();
      await scene.operate('suspend', workload.id);
      const pid = await scene.pid();
      await scene.engine.kill();
      await until(() => !isThere(pid), endLimitMs, 'Its program has not ended with the engine.');
      expect((await scene.operate<Workload>('resume', workload.id)).state).toBe('running');
      expect(await scene.pid()).not.toBe(pid);
      await holdsAgain(workload, held, 'After the resume');
    });

    it('ends at SIGTERM, and when the bus goes, whoever has started it', async () => {
      await using other = await Scene.create(subject, surroundings);
      for (const [end, limitMs, why] of [
        [(pid: number) => process.kill(pid, 'SIGTERM'), termLimitMs, 'It does not end at SIGTERM.'],
        [() => other.engine.kill(), endLimitMs, 'It does not end when the bus goes.'],
      ] as const) {
        const child = await other.startProgram();
        const ended = once(child, 'exit');
        try {
          await end(child.pid ?? 0);
          await until(() => child.exitCode !== null || child.signalCode !== null, limitMs, why);
        } finally {
          child.kill('SIGKILL');
          await ended;
        }
      }
    });

    it(`answers each call within ${callLimitMs / 1000} s, since all calls of an operation share ${operationLimitMs / 1000} s`, async ({
      annotate,
    }) => {
      // A call that took longer has failed the rule it was made for; this tells how near it came.
      await calling(async (plugin, workload) => void (await plugin.call('inspect', workload)));
      await annotate(`The slowest: ${scene.times}`);
    });
  });
}

/** What could be seen of a workload that somebody has touched. */
async function traces({ pids, runFolder }: PluginWorkload) {
  const files = runFolder === undefined ? [] : await readdir(runFolder, { recursive: true });
  return { isThere: pids.map(isThere), files: files.sort() };
}

/** Waits until all is as it was; what a plugin has brought back may need a moment to be seen. */
async function settles<T>(look: () => Promise<T>, before: T): Promise<void> {
  await expect
    .poll(look, {
      timeout: callLimitMs,
      message: 'Inspect does not say what it said, or it does not hold what it held.',
    })
    .toEqual(before);
}

async function until(holds: () => boolean, limitMs: number, otherwise: string): Promise<void> {
  for (const limit = Date.now() + limitMs; !holds(); await sleep(50))
    if (Date.now() > limit) throw new Error(otherwise);
}
