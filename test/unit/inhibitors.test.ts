/** What is made of the log-in manager's word about an inhibitor, and said of one that a job holds. */
import { describe, expect, it } from 'vitest';
import { inWords, parseInhibitor } from '../../engine/inhibitors/inhibitors.ts';
import { type Descriptor, type Facts, nothingHidden } from '../../engine/inspect/facts.ts';
import { inhibitors } from '../../engine/inspect/ties/inhibitors.ts';
import { pipes } from '../../engine/inspect/ties/pipes.ts';
import type { Inhibitor } from '../../proto/manifest.ts';

const path = '/run/systemd/inhibit/1.ref';
const told = (...lines: string[]) => `# This is private data. Do not parse.\n${lines.join('\n')}\n`;
const usual = ['WHAT=sleep:idle', 'MODE=block', 'UID=0', 'PID=5', 'WHO=me', 'WHY=so', `FIFO=${path}`];

describe('what the log-in manager keeps of an inhibitor', () => {
  it('is taken in its own words', () => {
    expect(parseInhibitor(told(...usual), path)).toEqual({
      what: 'sleep:idle',
      who: 'me',
      why: 'so',
      mode: 'block',
    });
  });

  it.each([
    [String.raw`a \"b\" \\ c`, 'a "b" \\ c'],
    [String.raw`\303\274\tx\nFIFO=y`, 'ü\tx\nFIFO=y'],
    [String.raw`\x41\s\'`, "A '"],
    ['plain ü', 'plain ü'],
  ])('has escapes in it: %s', (written, why) => {
    const lines = usual.map((line) => (line.startsWith('WHY') ? `WHY=${written}` : line));
    expect(parseInhibitor(told(...lines), path)?.why).toBe(why);
  });

  it.each([
    ['nothing', []],
    ['another pipe', usual.map((line) => line.replace('/1.ref', '/2.ref'))],
    ['no kind', usual.filter((line) => !line.startsWith('WHAT'))],
    ['another form', usual.map((line) => line.replace('WHAT=sleep', 'WHAT={sleep}'))],
    ['more than can be meant', usual.map((line) => line.replace('WHY=so', `WHY=${'o'.repeat(5000)}`))],
  ])('is not understood where it is %s', (_what, lines) => {
    expect(parseInhibitor(told(...lines), path)).toBeUndefined();
  });

  it('is put into words without what a terminal would take for its own', () => {
    const inhibitor = { what: 'sleep:handle-lid-switch:more', who: '', why: 'a\u001b[2Jb', mode: 'block' };
    expect(inWords(inhibitor)).toBe('going to sleep and heeding its lid and more ("a [2Jb")');
  });
});

describe('an inhibitor that a process holds', () => {
  const fifo = {
    ...{ fd: 5, kind: 'fifo', target: path, flags: 0o4001, mount: 1 },
    ...{ unseen: false, locked: false, leased: false, inode: { key: '1:2', bytes: 0, links: 1 } },
  } as Descriptor;
  const facts = (held: ReadonlyMap<string, Inhibitor>) =>
    ({
      processes: [{ pid: 7, name: 'burn', descriptors: [fifo] }],
      ...{ root: 7, isCapsule: false, strangers: [], hidden: nothingHidden, inhibitors: held },
      outsiders: new Map([['fifo:1:2', { pid: 3, name: 'systemd-logind' }]]),
    }) as unknown as Facts;

  it('is no pipe to a program that could be ended', () => {
    for (const held of [new Map(), new Map([[path, { what: 'sleep', who: '', why: '', mode: 'block' }]])])
      expect(pipes(facts(held))).toEqual([]);
  });

  it('of which nothing is known keeps the job from being suspended, and nobody is told to end the log-in manager', () => {
    const [finding, ...others] = inhibitors(facts(new Map()));
    expect(others).toEqual([]);
    expect(finding).toMatchObject({ tie: 'inhibitor', verdict: 'blocking', pid: 7 });
    expect(finding?.hint).toMatch(/has done what that is for, or end it\. Started within `torpor run`/);
    expect(finding?.hint).not.toContain('logind');
  });
});
