/**
 * Encryption at rest (docs/decisions/0020-encryption-at-rest.md): which key the store is encrypted by, whether it is at
 * hand, and what is done with it. The data key is in memory only from `unlock` to `lock`; on disk it lies wrapped.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { TorporError } from '../../../api/errors.ts';
import type { Logger } from '../../log.ts';
import type { FileKey } from './frames.ts';
import {
  type KeyFile,
  keysMost,
  type OpenKey,
  openKeyOf,
  readKeyFile,
  type WrappedKey,
  writeKeyFile,
} from './key-file.ts';
import { deriveKey, keyBytes, keyIdOf, seal, unseal } from './secrets.ts';
import { openByKey, openByPassphrase, type Wrap, wrapByKey, wrapByPassphrase } from './wraps.ts';

export const shortestPassphrase = 8;

/** What the data key is opened by. */
export type Secret =
  | { kind: 'passphrase'; passphrase: string }
  | { kind: 'keyring'; uid: number; key: Buffer };

export type EncryptionState = 'off' | 'locked' | 'unlocked' | 'unreadable';

export class Encryption {
  readonly #path: string;
  readonly #log: Logger;
  #file: KeyFile | undefined;
  /** Why the file cannot be used. */
  #problem: TorporError | undefined;
  #dataKey: Buffer | undefined;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  /** A file that cannot be used keeps nothing from working but what needs a key. */
  static async open(stateDir: string, log: Logger): Promise<Encryption> {
    const encryption = new Encryption(join(stateDir, 'encryption.json'), log);
    try {
      encryption.#file = await readKeyFile(encryption.#path);
    } catch (error) {
      if (!(error instanceof TorporError)) throw error;
      encryption.#problem = error;
      log.error({ err: error }, 'the keys of encrypted snapshots cannot be read');
    }
    return encryption;
  }

  get state(): EncryptionState {
    if (this.#problem !== undefined) return 'unreadable';
    if (this.#wrapped === undefined) return 'off';
    return this.#dataKey === undefined ? 'locked' : 'unlocked';
  }

  get problem(): string | undefined {
    return this.#problem?.message;
  }

  /** Who besides root may lock and unlock it. */
  get user(): number | undefined {
    return this.#file?.user;
  }

  get #wrapped(): WrappedKey | undefined {
    const [first] = this.#file?.keys ?? [];
    return first?.kind === 'wrapped' ? first : undefined;
  }

  get #openKeys(): OpenKey[] {
    return (this.#file?.keys ?? []).filter((key) => key.kind === 'open');
  }

  get wraps(): readonly Pick<Wrap, 'kind'>[] {
    return this.#wrapped?.wraps ?? [];
  }

  /** Id of the key that what is written is encrypted by. */
  get keyId(): string | undefined {
    return this.#wrapped?.keyId;
  }

  /** Whether a user's keyring has a key for it. */
  hasKeyringOf(uid: number): boolean {
    return this.#wrapped?.wraps.some((wrap) => wrap.kind === 'keyring' && wrap.uid === uid) ?? false;
  }

  /** Before something is written: @throws TorporError `blocked` where its key is not at hand. */
  refuseIfLocked(): void {
    if (this.#problem !== undefined) throw this.#problem;
    if (this.state !== 'locked') return;
    throw new TorporError(
      'blocked',
      'Snapshots are encrypted, and their key is locked. Nothing was touched.',
      'Unlock it: `torpor encryption unlock`.',
    );
  }

  /** By which key a new file is encrypted; undefined where it is not. @throws TorporError as refuseIfLocked. */
  forWriting(): FileKey | undefined {
    this.refuseIfLocked();
    const id = this.keyId;
    return id === undefined || this.#dataKey === undefined ? undefined : { id, key: this.#dataKey };
  }

  /** @throws TorporError `blocked` where it is locked, `failed` where there is no such key. */
  forReading(id: string, what: string): FileKey {
    const key = this.#keyOf(id);
    if (key !== undefined) return { id, key };
    if (this.#problem !== undefined) throw this.#problem;
    if (this.keyId === id)
      throw new TorporError(
        'blocked',
        `${what} is encrypted, and its key is locked.`,
        'Unlock it: `torpor encryption unlock`.',
      );
    throw new TorporError(
      'failed',
      `${what} cannot be read: the key ${id} that it is encrypted by is not in ${this.#path}.`,
      'Put that file back from a backup. The snapshot is left as it is.',
    );
  }

  isReadable(id: string): boolean {
    return this.#keyOf(id) !== undefined;
  }

  #keyOf(id: string): Buffer | undefined {
    if (this.#wrapped?.keyId === id) return this.#dataKey;
    const open = this.#openKeys.find(({ keyId }) => keyId === id);
    return open && openKeyOf(open);
  }

  /** What `--key-fd` of the programs takes; undefined where there are no keys. */
  forPrograms(): Buffer | undefined {
    if (this.#file === undefined) return undefined;
    const writing = this.#dataKey;
    const keys = [...(writing === undefined ? [] : [writing]), ...this.#openKeys.map(openKeyOf)];
    return Buffer.concat([Buffer.from([writing === undefined ? 0 : 1]), ...keys]);
  }

  /** Seals a text of a snapshot. */
  sealText({ key }: FileKey, text: string, bound: string): string {
    return seal(deriveKey(key, 'torpor manifests 1'), Buffer.from(text), bound).toString('base64');
  }

  /** @returns undefined where the key is locked. @throws Error where it is not what was sealed. */
  openText(id: string, sealed: string, bound: string): string | undefined {
    const key = this.#keyOf(id);
    if (key === undefined) return undefined;
    const bytes = unseal(deriveKey(key, 'torpor manifests 1'), Buffer.from(sealed, 'base64'), bound);
    if (bytes === undefined) throw new Error('what was sealed is not what it was');
    return bytes.toString('utf8');
  }

  /** One change after the other. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work, work);
    this.#last = result.catch(() => {});
    return result;
  }

  async #replace(file: KeyFile): Promise<void> {
    await writeKeyFile(this.#path, file);
    this.#file = file;
  }

  /**
   * From here on what is written is encrypted, by a new key.
   * @param needed ids of keys that snapshots are encrypted by.
   */
  turnOn(passphrase: string, user: number | undefined, needed: ReadonlySet<string>): Promise<void> {
    return this.#alone(async () => {
      if (this.#problem !== undefined) throw this.#problem;
      if (this.#wrapped !== undefined)
        throw new TorporError(
          'failed',
          'Snapshots are encrypted already.',
          'See `torpor encryption status`.',
        );
      const missing = [...needed].find((id) => this.#keyOf(id) === undefined);
      if (missing !== undefined)
        throw new TorporError(
          'failed',
          `There are snapshots that are encrypted by the key ${missing}, which is not in ${this.#path}.`,
          'Put that file back from a backup, or remove those snapshots; then turn encryption on.',
        );
      refuseIfShort(passphrase);
      // Snapshots of an earlier time keep their keys for as long as they are there.
      const former = this.#openKeys.filter(({ keyId }) => needed.has(keyId));
      if (former.length >= keysMost)
        throw new TorporError(
          'failed',
          `Encryption has been turned on and off ${former.length} times, and snapshots of each time are still there.`,
          'Remove some of the oldest (`torpor rm`).',
        );
      const key = randomBytes(keyBytes);
      const keyId = keyIdOf(key);
      const wraps = [await wrapByPassphrase(key, keyId, passphrase)];
      await this.#replace({
        version: 1,
        ...(user === undefined ? {} : { user }),
        keys: [{ kind: 'wrapped', keyId, wraps }, ...former],
      });
      this.#dataKey = key;
      this.#log.info({ keyId, user }, 'encryption is on');
    });
  }

  /** What is written from here on is not encrypted; the key of what has been lies open. It must be unlocked. */
  turnOff(): Promise<void> {
    return this.#alone(async () => {
      const { file, wrapped, key } = this.#unlocked();
      const opened: OpenKey = { kind: 'open', keyId: wrapped.keyId, key: key.toString('hex') };
      await this.#replace({ version: 1, keys: [opened, ...file.keys.slice(1)] });
      this.#forget();
      this.#log.info({ keyId: wrapped.keyId }, 'encryption is off');
    });
  }

  #unlocked(): { file: KeyFile; wrapped: WrappedKey; key: Buffer } {
    this.refuseIfLocked();
    const [file, wrapped, key] = [this.#file, this.#wrapped, this.#dataKey];
    if (file === undefined || wrapped === undefined || key === undefined) throw isOff();
    return { file, wrapped, key };
  }

  /** @throws TorporError `failed` where it does not fit; nothing has changed then. */
  unlock(secret: Secret): Promise<void> {
    return this.#alone(async () => {
      this.#dataKey = await this.#openBy(secret);
      this.#log.info({ by: secret.kind }, 'the key of encrypted snapshots is unlocked');
    });
  }

  async #openBy(secret: Secret): Promise<Buffer> {
    if (this.#problem !== undefined) throw this.#problem;
    const wrapped = this.#wrapped;
    if (wrapped === undefined) throw isOff();
    for (const wrap of wrapped.wraps) {
      let key: Buffer | undefined;
      if (wrap.kind === 'passphrase' && secret.kind === 'passphrase')
        key = await openByPassphrase(wrap, wrapped.keyId, secret.passphrase);
      else if (wrap.kind === 'keyring' && secret.kind === 'keyring' && wrap.uid === secret.uid)
        key = openByKey(wrap, wrapped.keyId, secret.key);
      if (key !== undefined && keyIdOf(key) === wrapped.keyId) return key;
    }
    throw secret.kind === 'passphrase'
      ? new TorporError('failed', 'That is not the passphrase. Nothing has changed.', 'Try again.')
      : new TorporError(
          'failed',
          'The key in the keyring does not fit these snapshots. Nothing has changed.',
          'Unlock them by the passphrase: `torpor encryption unlock --passphrase`.',
        );
  }

  /** Forgets the data key. What reads by it already reads on. */
  lock(): Promise<void> {
    return this.#alone(async () => {
      if (this.#problem !== undefined) throw this.#problem;
      if (this.#wrapped === undefined) throw isOff();
      this.#forget();
      this.#log.info({}, 'the key of encrypted snapshots is locked');
    });
  }

  #forget(): void {
    // Not filled with zeros: something that has just begun may still encrypt by it.
    this.#dataKey = undefined;
  }

  /** @throws TorporError `failed` where the old one is wrong; nothing has changed then. */
  changePassphrase(old: string, next: string): Promise<void> {
    return this.#alone(async () => {
      const key = await this.#openBy({ kind: 'passphrase', passphrase: old });
      refuseIfShort(next);
      await this.#replaceWrap(
        await wrapByPassphrase(key, keyIdOf(key), next),
        ({ kind }) => kind === 'passphrase',
      );
      this.#log.info({}, 'the passphrase of encrypted snapshots was changed');
    });
  }

  /** A key in this user's keyring unlocks it too from now on. It must be unlocked. */
  addKeyring(uid: number, wrapping: Buffer): Promise<void> {
    return this.#alone(async () => {
      const { wrapped, key } = this.#unlocked();
      await this.#replaceWrap(
        wrapByKey(key, wrapped.keyId, uid, wrapping),
        (wrap) => wrap.kind === 'keyring' && wrap.uid === uid,
      );
      this.#log.info({ uid }, 'a keyring unlocks encrypted snapshots');
    });
  }

  async #replaceWrap(next: Wrap, isOld: (wrap: Wrap) => boolean): Promise<void> {
    const [file, wrapped] = [this.#file, this.#wrapped];
    if (file === undefined || wrapped === undefined) throw isOff();
    const wraps = [...wrapped.wraps.filter((wrap) => !isOld(wrap)), next];
    await this.#replace({ ...file, keys: [{ ...wrapped, wraps }, ...file.keys.slice(1)] });
  }
}

function isOff(): TorporError {
  return new TorporError(
    'failed',
    'Snapshots are not encrypted.',
    'To encrypt them: `torpor encryption on`.',
  );
}

function refuseIfShort(passphrase: string): void {
  if ([...passphrase].length < shortestPassphrase)
    throw new TorporError(
      'usage',
      `The passphrase has fewer than ${shortestPassphrase} characters.`,
      'Choose a longer one: some words that have nothing to do with each other are good.',
    );
}
