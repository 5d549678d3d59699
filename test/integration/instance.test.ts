/** One app a user and engine: who is first, what is handed over, and what others leave behind. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TorporError } from '../../api/errors.ts';
import { type Claim, claimInstance, type Instance, instanceSocket } from '../../main/instance.ts';
import type { Answer, Request } from '../../main/request.ts';

const request: Request = { open: [], place: { kind: 'home' }, tray: false, browser: false, quit: false };
const answer: Answer = { text: 'done', shell: 'chromium' };

let folder: string;
let address: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'torpor-instance-'));
  address = join(folder, 'app');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function first(): Promise<Instance> {
  const claim = await claimInstance(request, address);
  if (claim.kind !== 'first') throw new Error('another one was first');
  return claim.instance;
}

describe('a second instance', () => {
  it('hands over what it was asked for, and hears what was done', async () => {
    await using instance = await first();
    const asked: Request[] = [];
    instance.handle(async (each) => {
      asked.push(each);
      return answer;
    });
    const second: Request = { ...request, open: ['/a b/ü.txt'], place: { kind: 'screen', workload: 'x' } };
    expect(await claimInstance(second, address)).toEqual({ kind: 'handed-over', answer });
    expect(asked).toEqual([second]);
  });

  it('waits for a first one that is still starting', async () => {
    await using instance = await first();
    const claim = claimInstance(request, address);
    setTimeout(() => instance.handle(async () => answer), 200);
    expect(await claim).toEqual({ kind: 'handed-over', answer });
  });

  it('hears the sentence of what failed', async () => {
    await using instance = await first();
    instance.handle(async () => {
      throw new TorporError('not-found', 'There is no such file.', 'Look for it.');
    });
    await expect(claimInstance(request, address)).rejects.toMatchObject({
      message: 'There is no such file.',
      hint: 'Look for it.',
    });
  });

  it('says so when the first one breaks off', async () => {
    const other = createServer((socket) => socket.destroy()).listen(address);
    await once(other, 'listening');
    await expect(claimInstance(request, address)).rejects.toThrow(
      /runs already, but did not take the request/,
    );
    other.close();
  });
});

it('has one winner of many that start at once, also over a stale socket', async () => {
  for (let round = 0; round < 20; round++) {
    await leaveStale();
    const claims: Claim[] = [];
    const all = Promise.all(
      Array.from({ length: 6 }, async () => {
        const claim = await claimInstance(request, address);
        claims.push(claim);
        if (claim.kind === 'first') claim.instance.handle(async () => answer);
      }),
    );
    await all;
    const winners = claims.filter((claim) => claim.kind === 'first');
    expect(winners).toHaveLength(1);
    for (const { instance } of winners) await instance[Symbol.asyncDispose]();
    expect(existsSync(address)).toBe(false);
  }
});

/** A socket whose owner was killed. */
async function leaveStale(): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(address)}, () => console.log())`;
  const owner = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(owner.stdout, 'data');
  owner.kill('SIGKILL');
  await once(owner, 'exit');
  expect(existsSync(address)).toBe(true);
}

it('takes over what is no socket', async () => {
  writeFileSync(address, 'something else');
  await using instance = await first();
  expect(instance).toBeDefined();
  expect(statSync(address).isSocket()).toBe(true);
});

it.each([
  'not JSON\n',
  '{}\n',
  `${JSON.stringify({ ...request, open: ['relative'] })}\n`,
  'x'.repeat(2 << 20),
])('refuses the message %.40s in a sentence and lives on', async (message) => {
  await using instance = await first();
  instance.handle(async () => answer);
  const socket = connect(address).on('error', () => {});
  socket.write(message);
  let reply = '';
  for await (const text of socket.setEncoding('utf8')) reply += text;
  if (reply !== '')
    expect(JSON.parse(reply)).toMatchObject({ error: { message: expect.stringMatching(/./) } });
  expect(await claimInstance(request, address)).toEqual({ kind: 'handed-over', answer });
});

describe('the folder of the socket', () => {
  it("is the user's own, and the name that of the engine", () => {
    const own = instanceSocket({ XDG_RUNTIME_DIR: folder, TORPOR_STATE_DIR: '/var/tmp/a' });
    expect(own).toMatch(new RegExp(`^${folder}/torpor/app-[0-9a-f]{12}$`));
    expect(statSync(join(folder, 'torpor')).mode & 0o777).toBe(0o700);
    expect(instanceSocket({ XDG_RUNTIME_DIR: folder, TORPOR_STATE_DIR: '/var/tmp/b' })).not.toBe(own);
  });

  it('is closed to others where it was open', () => {
    mkdirSync(join(folder, 'torpor'));
    chmodSync(join(folder, 'torpor'), 0o777);
    instanceSocket({ XDG_RUNTIME_DIR: folder });
    expect(statSync(join(folder, 'torpor')).mode & 0o777).toBe(0o700);
  });

  it('is refused where it leads elsewhere', () => {
    symlinkSync('/etc', join(folder, 'torpor'));
    expect(() => instanceSocket({ XDG_RUNTIME_DIR: folder })).toThrow(/cannot use the folder/);
    expect(statSync('/etc').mode & 0o777).toBe(0o755);
  });
});
