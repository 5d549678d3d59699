/**
 * The header of a bundle: which one it is, and its key, wrapped under each passphrase. It has a fixed layout without any
 * byte that is not checked: a checksum tells damage from a wrong passphrase, and a tag under the key tells changes.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import sodium from 'libsodium-wrappers-sumo';
import { TorporError } from '../../../api/errors.ts';
import { aboutPassphrase, shortestPassphrase } from '../../../api/types.ts';
import { hmac, keyBytes, nonceBytes, seal, sha256, tagBytes, unseal } from './crypto.ts';

export const headerBytes = 4096;
export const headerVersion = 1;
const magic = Buffer.from('TORPORBN');
const wrapBytes = 96;
const firstWrap = 64;
const tagAt = headerBytes - 64;
const checkAt = headerBytes - 32;
export const mostWraps = 8;
const saltBytes = 16;
const argon2id = 1;

/** Argon2id's: how often it goes over the memory, and the memory in bytes. */
export interface Kdf {
  ops: number;
  memory: number;
}

/** libsodium's MODERATE: a second and 256 MiB for each guess. */
export const usualKdf: Kdf = { ops: 3, memory: 256 * 1024 * 1024 };

export const kdfBounds = { ops: { least: 1, most: 16 }, memory: { least: 8192, most: 1024 * 1024 * 1024 } };

const isWithin = (value: number, { least, most }: { least: number; most: number }) =>
  value >= least && value <= most;

interface Wrap extends Kdf {
  salt: Buffer;
  nonce: Buffer;
  /** The bundle's key, encrypted, and the tag. */
  sealed: Buffer;
}

/** What a header says, before anything vouches for it. */
export interface Header {
  id: Buffer;
  wraps: readonly Wrap[];
  /** As it lies on the medium. */
  bytes: Buffer;
}

/** Who has this has the bundle. */
export interface OpenHeader extends Header {
  key: Buffer;
}

/** Whether this may be a bundle's header at all. */
export const looksLikeHeader = (bytes: Buffer): boolean => bytes.subarray(0, magic.length).equals(magic);

/** Whether it came whole from the medium. */
export const isWhole = (bytes: Buffer): boolean =>
  bytes.length === headerBytes &&
  looksLikeHeader(bytes) &&
  sha256(bytes.subarray(0, checkAt)).equals(bytes.subarray(checkAt));

/** @throws TorporError where it is damaged, or of a version that is not known. */
export function parseHeader(bytes: Buffer, path: string): Header {
  if (!looksLikeHeader(bytes)) throw noBundle(path);
  const damaged = (what: string) =>
    new TorporError(
      'failed',
      `The header of the bundle ${path} is damaged: ${what}. Nothing of it is used.`,
      'Use another copy of it, or export the session anew.',
    );
  if (!isWhole(bytes)) throw damaged('its checksum does not match');
  const version = bytes.readUInt32LE(8);
  if (version !== headerVersion)
    throw new TorporError(
      'failed',
      `The bundle ${path} has version ${version}, and this Torpor knows version ${headerVersion}.`,
      'Install a newer Torpor on this machine.',
    );
  const count = bytes.readUInt32LE(32);
  if (count < 1 || count > mostWraps) throw damaged(`it says that it has ${count} passphrases`);
  const used = firstWrap + count * wrapBytes;
  const wraps = Array.from({ length: count }, (_, number) =>
    parseWrap(bytes.subarray(firstWrap + number * wrapBytes, firstWrap + (number + 1) * wrapBytes)),
  );
  if (wraps.includes(undefined)) throw damaged('what it says of a passphrase is out of bounds');
  const reserved = [bytes.subarray(12, 16), bytes.subarray(36, firstWrap), bytes.subarray(used, tagAt)];
  if (reserved.some((part) => part.some((byte) => byte !== 0))) throw damaged('a reserved part is in use');
  return {
    id: bytes.subarray(16, 32),
    wraps: wraps.filter((wrap) => wrap !== undefined),
    bytes,
  };
}

export const noBundle = (path: string): TorporError =>
  new TorporError('usage', `${path} is no bundle of Torpor's.`, 'Name the file or the folder of a bundle.');

function parseWrap(bytes: Buffer): Wrap | undefined {
  const wrap = {
    ops: bytes.readUInt32LE(4),
    memory: Number(bytes.readBigUInt64LE(8)),
    salt: bytes.subarray(16, 32),
    nonce: bytes.subarray(32, 44),
    sealed: bytes.subarray(48),
  };
  const fits =
    bytes.readUInt32LE(0) === argon2id &&
    isWithin(wrap.ops, kdfBounds.ops) &&
    isWithin(wrap.memory, kdfBounds.memory) &&
    bytes.readUInt32LE(44) === 0;
  return fits ? wrap : undefined;
}

/** All of a wrap but the sealed key. */
function wrapHead({ ops, memory, salt, nonce }: Omit<Wrap, 'sealed'>): Buffer {
  const head = Buffer.alloc(48);
  head.writeUInt32LE(argon2id, 0);
  head.writeUInt32LE(ops, 4);
  head.writeBigUInt64LE(BigInt(memory), 8);
  salt.copy(head, 16);
  nonce.copy(head, 32);
  return head;
}

const boundTo = (id: Buffer, head: Buffer) => Buffer.concat([Buffer.from('torpor bundle wrap 1'), id, head]);

async function stretch(passphrase: string, { ops, memory, salt }: Omit<Wrap, 'sealed' | 'nonce'>) {
  await sodium.ready;
  try {
    return Buffer.from(
      sodium.crypto_pwhash(
        keyBytes,
        Buffer.from(passphrase.normalize('NFC')),
        salt,
        ops,
        memory,
        sodium.crypto_pwhash_ALG_ARGON2ID13,
      ),
    );
  } catch (error) {
    throw new TorporError(
      'failed',
      `The passphrase cannot be worked on: that needs ${Math.ceil(memory / 1024 / 1024)} MiB of memory, which are not free.`,
      'Close something, and try again.',
      {},
      { cause: error },
    );
  }
}

/** The wrap that this passphrase opens, and the key; undefined where there is none. */
async function findWrap(
  { id, wraps }: Pick<Header, 'id' | 'wraps'>,
  passphrase: string,
): Promise<{ wrap: Wrap; key: Buffer } | undefined> {
  for (const wrap of wraps) {
    const key = unseal(await stretch(passphrase, wrap), wrap.nonce, boundTo(id, wrapHead(wrap)), wrap.sealed);
    if (key !== undefined) return { wrap, key };
  }
  return undefined;
}

const tagOf = (key: Buffer, bytes: Buffer) =>
  hmac(hmac(key, 'torpor bundle header 1'), bytes.subarray(0, tagAt));

/** @throws TorporError `not-permitted` for a wrong passphrase, `failed` where the header was changed. */
export async function openHeader(header: Header, passphrase: string, path: string): Promise<OpenHeader> {
  const found = await findWrap(header, passphrase);
  if (found === undefined)
    throw new TorporError(
      'not-permitted',
      `That is not a passphrase of the bundle ${path}.`,
      'Try again. Capital letters and the keyboard layout count.',
      aboutPassphrase,
    );
  return openHeaderByKey(header, found.key, path);
}

/** The same by the bundle's key itself. @throws TorporError `failed` where the header was changed. */
export function openHeaderByKey(header: Header, key: Buffer, path: string): OpenHeader {
  if (!timingSafeEqual(tagOf(key, header.bytes), header.bytes.subarray(tagAt, checkAt)))
    throw new TorporError(
      'failed',
      `The header of the bundle ${path} was changed by somebody who does not have its key. Nothing of it is used.`,
      'Use another copy of it, and find out who had it.',
    );
  return { ...header, key };
}

async function makeWrap(id: Buffer, key: Buffer, passphrase: string, kdf: Kdf): Promise<Wrap> {
  refuseIfShort(passphrase);
  const open = { ...kdf, salt: randomBytes(saltBytes), nonce: randomBytes(nonceBytes) };
  const sealed = seal(await stretch(passphrase, open), open.nonce, boundTo(id, wrapHead(open)), key);
  return { ...open, sealed: Buffer.concat(sealed) };
}

/** @throws TorporError `usage` */
export function refuseIfShort(passphrase: string): void {
  if ([...passphrase.normalize('NFC')].length < shortestPassphrase)
    throw new TorporError(
      'usage',
      `The passphrase has fewer than ${shortestPassphrase} characters.`,
      'Choose a longer one: some words that have nothing to do with each other are good.',
      aboutPassphrase,
    );
}

function compose(id: Buffer, key: Buffer, wraps: readonly Wrap[]): OpenHeader {
  if (wraps.length > mostWraps)
    throw new TorporError(
      'usage',
      `A bundle has at most ${mostWraps} passphrases.`,
      'Remove one that is not needed any more.',
    );
  const bytes = Buffer.alloc(headerBytes);
  magic.copy(bytes, 0);
  bytes.writeUInt32LE(headerVersion, 8);
  id.copy(bytes, 16);
  bytes.writeUInt32LE(wraps.length, 32);
  for (const [number, wrap] of wraps.entries()) {
    const at = firstWrap + number * wrapBytes;
    wrapHead(wrap).copy(bytes, at);
    wrap.sealed.copy(bytes, at + wrapBytes - keyBytes - tagBytes);
  }
  tagOf(key, bytes).copy(bytes, tagAt);
  sha256(bytes.subarray(0, checkAt)).copy(bytes, checkAt);
  return { id, wraps, bytes, key };
}

/** Of a new bundle, with a random id and key. */
export async function makeHeader(passphrases: readonly string[], kdf: Kdf): Promise<OpenHeader> {
  const [id, key] = [randomBytes(16), randomBytes(keyBytes)];
  const wraps: Wrap[] = [];
  for (const passphrase of new Set(passphrases.map((each) => each.normalize('NFC'))))
    wraps.push(await makeWrap(id, key, passphrase, kdf));
  return compose(id, key, wraps);
}

/** With these passphrases too; those that open it already are not added again. */
export async function addPassphrases(
  header: OpenHeader,
  passphrases: readonly string[],
  kdf: Kdf,
): Promise<OpenHeader> {
  const { id, key } = header;
  let wraps = header.wraps;
  for (const passphrase of passphrases)
    if ((await findWrap({ id, wraps }, passphrase)) === undefined)
      wraps = [...wraps, await makeWrap(id, key, passphrase, kdf)];
  return wraps === header.wraps ? header : compose(id, key, wraps);
}

/** Without these. @throws TorporError where one is none of its passphrases, or none would be left. */
export async function removePassphrases(
  header: OpenHeader,
  passphrases: readonly string[],
): Promise<OpenHeader> {
  const { id, key } = header;
  let wraps = header.wraps;
  for (const passphrase of passphrases) {
    const found = await findWrap({ id, wraps }, passphrase);
    if (found === undefined)
      throw new TorporError(
        'usage',
        'What is to be removed is none of the passphrases of this bundle. Nothing has changed.',
        'Name one that opens it.',
      );
    wraps = wraps.filter((wrap) => wrap !== found.wrap);
  }
  if (wraps.length === 0)
    throw new TorporError(
      'usage',
      'The last passphrase of a bundle cannot be removed. Nothing has changed.',
      'Add another one first.',
    );
  return wraps === header.wraps ? header : compose(id, key, wraps);
}
