/** What is said where a plugin of Torpor's own lies where its user does not come. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findUser } from '../../engine/capsule/users.ts';
import { hindrance } from '../../engine/plugin-host/reachable.ts';

const folder = mkdtempSync('/var/tmp/torpor-reachable-');
afterAll(() => rmSync(folder, { recursive: true }));
chmodSync(folder, 0o755);
const place = (name: string, mode: number) => {
  writeFileSync(join(folder, name), '');
  chmodSync(join(folder, name), mode);
  return join(folder, name);
};
const program = place('program', 0o755);
const script = place("it's a script", 0o644);
const secret = place('secret', 0o600);
mkdirSync(join(folder, 'closed'), { mode: 0o700 });
const closed = join(folder, 'closed');
place('closed/node', 0o755);

describe('a program of Torpor’s own', () => {
  it.each([
    ['can be run', [program, script, '--option'], undefined],
    ['is not to be run', [script, script], `games may not run ${script}; `],
    ['is not to be read', [program, secret], `games may not read ${secret}; `],
    ['is not to be reached', [join(closed, 'node'), script], `games may not enter ${closed}; `],
    ['is missing', [program, join(folder, 'none/x')], `${folder}/none is missing; `],
  ])('%s', async (_, exec, sentence) => {
    const said = await hindrance(exec, await findUser('games'));
    expect(said?.slice(0, sentence?.length)).toBe(sentence);
  });

  it('can be run by root, whatever the folder', async () => {
    const exec = [join(closed, 'node'), secret];
    expect(await hindrance(exec, await findUser('root'))).toBeUndefined();
  });
});
