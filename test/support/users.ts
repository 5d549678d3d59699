/** A user of a test's own, with a home folder; gone when the test is over. */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface TestUser extends AsyncDisposable {
  name: string;
  uid: number;
  home: string;
}

/** Makes one. What an earlier run that was killed has left of it is removed first. */
export async function makeUser(name: string, uid: number): Promise<TestUser> {
  const home = `/home/${name}`;
  const remove = async () => {
    await run('userdel', ['--force', name]).catch(() => {});
    await rm(home, { recursive: true, force: true });
  };
  await remove();
  // No password fits, but the account is not locked: sshd lets nobody in who is.
  const account = ['--password', '*', '--shell', '/bin/sh', '--uid', String(uid), '--user-group'];
  await run('useradd', ['--create-home', '--home-dir', home, ...account, name]);
  return { name, uid, home, [Symbol.asyncDispose]: remove };
}
