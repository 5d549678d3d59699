/** Encryption of snapshots at rest: turning it on and off, and its key. */
import { userInfo } from 'node:os';
import type { EngineClient } from '../../api/client.ts';
import { TorporError } from '../../api/errors.ts';
import type { EncryptionChange, EncryptionStatus } from '../../api/types.ts';
import type { Command, Context } from '../context.ts';
import { bytes } from '../format.ts';
import { readPassphrases } from '../passphrase.ts';
import { Keyring } from '../secret-service.ts';

type Action = EncryptionChange['action'] | 'status';

/** What is to be asked of the engine; undefined where nothing is to be changed. */
type Prepare = (context: Context, engine: EngineClient) => Promise<EncryptionChange | undefined>;

const passphraseOf = async (text: string, anew = false) => (await readPassphrases([{ text, anew }]))[0] ?? '';

/** Who has called sudo, by whom the key can be unlocked from then on. */
function callerBehindSudo(): number | undefined {
  const uid = Number(process.env.SUDO_UID);
  return Number.isInteger(uid) && uid > 0 ? uid : undefined;
}

const actions: Record<Action, Prepare> = {
  status: async () => undefined,
  on: async () => {
    const user = callerBehindSudo();
    const passphrase = await passphraseOf('New passphrase', true);
    return { action: 'on', passphrase, ...(user === undefined ? {} : { user }) };
  },
  off: async () => ({ action: 'off' }),
  lock: async () => ({ action: 'lock' }),
  unlock: async ({ invocation, note }, engine) => {
    if (!invocation.flag('passphrase') && (await engine.encryption()).keyring) {
      try {
        await using keyring = await Keyring.open();
        const key = await keyring.find();
        if (key !== undefined) return { action: 'unlock', key: key.toString('hex') };
        note('Your keyring has no key of Torpor any more.');
      } catch (error) {
        if (!(error instanceof TorporError)) throw error;
        note(error.message);
      }
    }
    return { action: 'unlock', passphrase: await passphraseOf('Passphrase') };
  },
  passphrase: async () => {
    const [passphrase = '', next = ''] = await readPassphrases([
      { text: 'Passphrase' },
      { text: 'New passphrase', anew: true },
    ]);
    return { action: 'passphrase', passphrase, next };
  },
  keyring: async (_context, engine) => {
    const { state } = await engine.encryption();
    if (state !== 'unlocked')
      throw new TorporError(
        'failed',
        state === 'off' ? 'Snapshots are not encrypted.' : 'The key of encrypted snapshots is not unlocked.',
        state === 'off'
          ? 'To encrypt them: `sudo torpor encryption on`.'
          : 'First: `torpor encryption unlock`.',
      );
    await using keyring = await Keyring.open();
    return { action: 'keyring', key: (await keyring.make()).toString('hex') };
  },
};

export const encryption: Command = {
  definition: {
    name: 'encryption',
    summary: 'encrypt snapshots on disk',
    description: [
      'Encrypts the memory and the files of snapshots on disk, by a key that the engine has in memory only while it is unlocked: from `unlock`, or from `on`, until `lock` or the end of the engine. While it is locked nothing can be suspended or resumed; what is suspended is listed, kept and removed as ever.',
      'ACTION is one of: status; on, which asks for a passphrase; off, after which what is written is not encrypted and the key of what has been lies open beside it; unlock; lock; passphrase, which changes it; keyring, by which the login keyring of whoever calls it unlocks too. on and off are for root. Who calls `on` by sudo may do the others as well.',
      'A passphrase is asked for on the terminal, or read from standard input, where that is none: one line each.',
      'Nobody can read encrypted snapshots without the passphrase or the keyring. Snapshots from before are encrypted little by little: their memory in the background, the rest of them never; status says how much is left.',
    ],
    arguments: [{ name: 'ACTION', kind: 'text', optional: true }],
    options: [{ name: 'passphrase', summary: 'unlock: ask for the passphrase, and not the keyring.' }],
    examples: [
      { command: 'sudo torpor encryption on', meaning: 'encrypt from now on' },
      { command: 'torpor encryption unlock', meaning: 'so that applications can be suspended and resumed' },
      { command: 'torpor encryption keyring', meaning: 'unlock by the login keyring the next time' },
    ],
  },
  async run(context) {
    const [word = 'status'] = context.invocation.arguments;
    const known = Object.keys(actions) as Action[];
    const action = known.find((each) => each === word);
    if (action === undefined)
      throw new TorporError(
        'usage',
        'That is nothing that can be done with encryption.',
        `One of: ${known.join(', ')}.`,
      );
    const engine = await context.engine();
    const change = await actions[action](context, engine);
    const status = change === undefined ? await engine.encryption() : await engine.changeEncryption(change);
    context.result(status, describe(status));
    return status.state === 'unreadable' ? 1 : 0;
  },
};

function describe({
  state,
  problem,
  user,
  keyring,
  encryptedBytes,
  plainBytes,
  ...rest
}: EncryptionStatus): string {
  if (state === 'unreadable') return problem ?? '';
  const { plainSnapshots, runsInMemory } = rest;
  const states = {
    off: 'Snapshots are not encrypted.',
    locked: 'Snapshots are encrypted, and their key is locked: `torpor encryption unlock`.',
    unlocked: 'Snapshots are encrypted, and their key is unlocked.',
  };
  if (state === 'off') return states.off;
  return [
    states[state],
    ...(user === undefined
      ? []
      : [`Besides root, ${user === userInfo().uid ? 'you' : `user ${user}`} may unlock it.`]),
    ...(keyring ? ['Your keyring has a key for it.'] : []),
    `Memory: ${bytes(encryptedBytes)} encrypted, ${bytes(plainBytes)} not yet.`,
    ...(plainSnapshots > 0
      ? [`${plainSnapshots} older snapshots have other files that are not encrypted.`]
      : []),
    ...(runsInMemory
      ? []
      : ['The run folder is on a disk: what is being suspended lies there unencrypted meanwhile.']),
  ].join('\n');
}
