/** Opening an address in the user's browser. */
import { spawn } from 'node:child_process';
import { TorporError } from '../../api/errors.ts';

const schemes = ['http:', 'https:', 'mailto:'];
const openers = [['xdg-open'], ['gio', 'open']] as const;

/** @throws TorporError `usage` for any other kind of address; `failed` where nothing opens one. */
export async function openExternal(address: string): Promise<void> {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !schemes.includes(url.protocol))
    throw new TorporError(
      'usage',
      `${address} is not opened: only web and mail addresses are.`,
      'Copy it into your browser if you trust it.',
    );
  for (const [program, ...args] of openers) if (await starts(program, [...args, url.href])) return;
  throw new TorporError(
    'failed',
    'There is no program here that opens web addresses.',
    `Open it yourself: ${url.href}`,
  );
}

function starts(program: string, args: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: 'ignore', detached: true });
    child.once('error', () => resolve(false));
    child.once('spawn', () => {
      child.unref();
      resolve(true);
    });
  });
}
