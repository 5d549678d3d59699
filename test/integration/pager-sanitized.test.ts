/** The pager built with sanitizers; and what it reads, nearly right, given to the parts that read it. */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { killIfThere } from '../support/engine.ts';
import { buildPrograms, canPage, makeStore, PagerScene, type Scene } from '../support/pager.ts';

const scene: Scene = { seed: 31, processes: 2, mappings: 3, pages: 400, codec: 'lz4' };

describe.skipIf(!canPage).each(['address,undefined', 'thread'])(
  'with sanitizers: %s',
  { timeout: 90_000 },
  (kind) => {
    let programs: string;
    beforeAll(() => {
      programs = buildPrograms(kind);
    });
    afterAll(() => {
      rmSync(programs, { recursive: true, force: true });
    });

    it('resumes while memory changes, and while workers die', async () => {
      await using pager = new PagerScene(programs, scene);
      await pager.start();
      await pager.run('change', 3);
      for (let round = 0; round < 3; round++) {
        await pager.ask('status');
        for (const pid of pager.helpers('w')) killIfThere(pid);
      }
      execFileSync('cat', [`${pager.mount}/pages-1.img`, `${pager.mount}/pages-2.img`], { stdio: 'ignore' });
      await pager.ended();
      await pager.ask('load').catch(() => undefined);
      await pager.until(() => pager.hasEnded());
      expect(pager.out).not.toContain('wrong');
      expect(pager.stderr).toBe('');
    });

    it('bears any line at its control socket', async () => {
      await using pager = new PagerScene(programs, scene);
      await pager.start();
      let state = 7;
      const dice = (sides: number) => {
        state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
        return Math.floor((state / 2_147_483_648) * sides);
      };
      const words = [
        'status',
        'hold',
        'continue',
        'unfetched',
        'load',
        '',
        ' ',
        '\0',
        '-1',
        '9999999999999',
        'x'.repeat(5000),
      ];
      for (let round = 0; round < 200; round++) {
        const line = Array.from({ length: 1 + dice(3) }, () => words[dice(words.length)]).join(
          dice(4) ? ' ' : '',
        );
        // Whatever is loaded without a process is complete at once.
        if (!/^(load|continue)/.test(line)) await pager.ask(line).catch(() => undefined);
      }
      expect(await pager.ask('status')).toHaveProperty('state');
      expect(pager.stderr).toBe('');
    });

    it('reads nothing wrong out of damaged files, requests and changes', () => {
      makeStore(programs, scene, programs);
      const said = execFileSync(`${programs}/fuzz-pager`, ['4', '5', programs], {
        encoding: 'utf8',
        stdio: 'pipe',
      });
      expect(said).toMatch(/^\d+ rounds$/m);
    });
  },
);
