/**
 * A key of Torpor's in the user's own keyring, by the Secret Service of their session bus
 * (https://specifications.freedesktop.org/secret-service-spec). Whoever runs `torpor` asks for it; the engine never does.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Message, Message as MessageOf, Variant } from '@jellybrick/dbus-next';
import { BusConnection } from '../api/connection.ts';
import { sentenceOf, TorporError } from '../api/errors.ts';

const service = 'org.freedesktop.secrets';
const root = '/org/freedesktop/secrets';
const ofService = 'org.freedesktop.Secret.Service';
const none = '/';
/** By which it is found again. */
const attributes = { application: 'torpor', purpose: 'encryption of snapshots' };
const keyBytes = 32;
/** The user may have to type the password of the keyring. */
const promptLimitMs = 5 * 60_000;

/** A secret as the service hands it over: session, parameters, value, kind of contents. */
type WireSecret = [string, Buffer, Buffer, string];

export class Keyring implements AsyncDisposable {
  readonly #connection: BusConnection;
  #session = none;

  private constructor(connection: BusConnection) {
    this.#connection = connection;
  }

  /** @throws TorporError `failed` where there is none. */
  static async open(env: NodeJS.ProcessEnv = process.env): Promise<Keyring> {
    const address = addressOf(env);
    if (address === undefined) throw unreachable('there is no session bus');
    let connection: BusConnection;
    try {
      connection = await BusConnection.open(address);
    } catch (error) {
      throw unreachable(sentenceOf(error));
    }
    const keyring = new Keyring(connection);
    try {
      // Unencrypted on the way: it is the user's own bus, which passes it from one process of theirs to another.
      const body = ['plain', new Variant('s', '')];
      const reply = await keyring.#call(root, ofService, 'OpenSession', 'sv', body);
      keyring.#session = reply.body[1] as string;
      return keyring;
    } catch (error) {
      await connection[Symbol.asyncDispose]();
      throw unreachable(sentenceOf(error));
    }
  }

  #call(
    path: string,
    ofInterface: string,
    member: string,
    signature: string,
    body: unknown[],
  ): Promise<Message> {
    return this.#connection.call(
      new MessageOf({ destination: service, path, interface: ofInterface, member, signature, body }),
    );
  }

  /** The key, if it is there; the user is asked to unlock the keyring where that is needed. */
  async find(): Promise<Buffer | undefined> {
    const reply = await this.#call(root, ofService, 'SearchItems', 'a{ss}', [attributes]);
    const [unlocked, locked] = reply.body as [string[], string[]];
    const item = unlocked[0] ?? (await this.#unlock(locked))[0];
    if (item === undefined) return undefined;
    const found = await this.#call(root, ofService, 'GetSecrets', 'aoo', [[item], this.#session]);
    const secret = (found.body[0] as Record<string, WireSecret>)[item];
    const key = secret === undefined ? undefined : Buffer.from(secret[2]);
    return key?.length === keyBytes ? key : undefined;
  }

  /** Puts a new key into the user's usual keyring, in place of one that is there. */
  async make(): Promise<Buffer> {
    const key = randomBytes(keyBytes);
    const collection = await this.#usualCollection();
    const label = 'org.freedesktop.Secret.Item.Label';
    const properties = {
      [label]: new Variant('s', 'Torpor: key of suspended applications'),
      'org.freedesktop.Secret.Item.Attributes': new Variant('a{ss}', attributes),
    };
    const secret = [this.#session, Buffer.alloc(0), key, 'application/octet-stream'];
    const body = [properties, secret, true];
    const ofCollection = 'org.freedesktop.Secret.Collection';
    const reply = await this.#call(collection, ofCollection, 'CreateItem', 'a{sv}(oayays)b', body);
    const [item, prompt] = reply.body as [string, string];
    if (item === none) await this.#answered(prompt);
    return key;
  }

  async #usualCollection(): Promise<string> {
    const reply = await this.#call(root, ofService, 'ReadAlias', 's', ['default']);
    const path = reply.body[0] as string;
    if (path === none)
      throw new TorporError(
        'failed',
        'There is no keyring yet.',
        'Make one with your desktop (Passwords and Keys, for example), and try again.',
      );
    await this.#unlock([path]);
    return path;
  }

  async #unlock(paths: readonly string[]): Promise<string[]> {
    if (paths.length === 0) return [];
    const reply = await this.#call(root, ofService, 'Unlock', 'ao', [paths]);
    const [unlocked, prompt] = reply.body as [string[], string];
    if (prompt === none) return unlocked;
    await this.#answered(prompt);
    return [...paths];
  }

  /** Has the service ask its user. @throws TorporError `failed` where they dismissed it. */
  async #answered(prompt: string): Promise<void> {
    const ofPrompt = 'org.freedesktop.Secret.Prompt';
    await this.#connection.addMatch(`type='signal',interface='${ofPrompt}',path='${prompt}'`);
    const dismissed = new Promise<boolean>((resolve, reject) => {
      const limit = setTimeout(() => reject(unreachable('nobody unlocked it')), promptLimitMs);
      this.#connection.bus.on('message', (message: Message) => {
        if (message.path !== prompt || message.member !== 'Completed') return;
        clearTimeout(limit);
        resolve(message.body[0] as boolean);
      });
    });
    await this.#call(prompt, ofPrompt, 'Prompt', 's', ['']);
    if (await dismissed) throw unreachable('it was not unlocked');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#connection[Symbol.asyncDispose]();
  }
}

function addressOf({ DBUS_SESSION_BUS_ADDRESS, XDG_RUNTIME_DIR }: NodeJS.ProcessEnv): string | undefined {
  if (DBUS_SESSION_BUS_ADDRESS) return DBUS_SESSION_BUS_ADDRESS;
  const usual = join(XDG_RUNTIME_DIR ?? '/nonexistent', 'bus');
  return existsSync(usual) ? `unix:path=${usual}` : undefined;
}

function unreachable(why: string): TorporError {
  return new TorporError(
    'failed',
    `Your keyring cannot be used: ${why.replace(/\.$/, '')}.`,
    'Unlock by the passphrase: `torpor encryption unlock --passphrase`.',
  );
}
