/** Settings of the engine, and encryption of its store. */
import { TorporError } from '../../api/errors.ts';
import type { EncryptionChange, EncryptionStatus, Settings } from '../../api/types.ts';
import type { Secret } from '../store/encryption/encryption.ts';
import { describeEncryption } from '../store/encryption/status.ts';
import type { Caller } from '../workload/registry.ts';
import type { OperationParts } from './parts.ts';

export class Administration {
  readonly #parts: OperationParts;

  constructor(parts: OperationParts) {
    this.#parts = parts;
  }

  async settings(caller: Caller): Promise<Settings> {
    refuseUnlessRoot(caller);
    return this.#parts.settings.now;
  }

  async changeSettings(caller: Caller, settings: Settings): Promise<void> {
    refuseUnlessRoot(caller);
    await this.#parts.settings.replace(settings);
    this.#parts.log.info({ settings, uid: caller.uid }, 'settings changed');
  }

  async encryption(caller: Caller): Promise<EncryptionStatus> {
    this.#refuseUnlessKeyHolder(caller);
    const { store, paths } = this.#parts;
    return describeEncryption(store, paths.runDir, caller.uid);
  }

  async changeEncryption(caller: Caller, change: EncryptionChange): Promise<EncryptionStatus> {
    this.#refuseUnlessKeyHolder(caller);
    const { store, upkeep } = this.#parts;
    const { encryption } = store;
    switch (change.action) {
      case 'on':
        refuseUnlessRoot(caller, 'Turning encryption on and off is');
        await encryption.turnOn(change.passphrase, change.user, await store.keysNeeded());
        break;
      case 'off':
        refuseUnlessRoot(caller, 'Turning encryption on and off is');
        await encryption.turnOff();
        break;
      case 'unlock':
        await encryption.unlock(secretOf(caller, change));
        break;
      case 'lock':
        await encryption.lock();
        break;
      case 'passphrase':
        await encryption.changePassphrase(change.passphrase, change.next);
        break;
      case 'keyring':
        await encryption.addKeyring(caller.uid, Buffer.from(change.key, 'hex'));
        break;
    }
    // What is there already is encrypted anew beside everything else.
    if (encryption.state === 'unlocked') upkeep.compressSoon();
    return this.encryption(caller);
  }

  #refuseUnlessKeyHolder({ uid }: Caller): void {
    if (uid === 0 || uid === this.#parts.store.encryption.user) return;
    throw new TorporError(
      'not-permitted',
      'The encryption of snapshots is for the whole machine: root alone sees and changes it, and who root has named.',
      'Use sudo.',
    );
  }
}

function refuseUnlessRoot({ uid }: Caller, what = 'The settings of the engine are'): void {
  if (uid !== 0)
    throw new TorporError('not-permitted', `${what} for the whole machine, and for root alone.`, 'Use sudo.');
}

function secretOf(
  { uid }: Caller,
  { passphrase, key }: Extract<EncryptionChange, { action: 'unlock' }>,
): Secret {
  if (passphrase !== undefined) return { kind: 'passphrase', passphrase };
  if (key !== undefined) return { kind: 'keyring', uid, key: Buffer.from(key, 'hex') };
  throw new TorporError('usage', 'Neither a passphrase nor a key was given.');
}
