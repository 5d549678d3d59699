/**
 * Files, encrypted. A header names the key and has a salt, by which each file gets a key of its own; frames of 64 KiB
 * follow, each authenticated with its number, whether it is the last, the header, and the name that the file has. So a
 * byte that is not what it was is found before the frame that it is in is used, and so is a file that was cut short, or
 * put in another's place. Big files need no memory.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { cipher, deriveKey, tagBytes } from './secrets.ts';

const magic = Buffer.from('TORPORFE');
const formatVersion = 1;
const saltBytes = 32;
export const frameBytes = 64 * 1024;
/** Magic, version, bytes of a frame, id of the key, salt. */
export const headerBytes = magic.length + 4 + 4 + 16 + saltBytes;

/** By which key files are encrypted. */
export interface FileKey {
  id: string;
  /** The data key. */
  key: Buffer;
}

/** The contents are not what was encrypted: damaged, cut short, another's, or by another key. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** One file's: what its frames have in common. */
class FileCipher {
  readonly #key: Buffer;
  readonly #bound: Buffer;

  constructor({ key }: FileKey, header: Buffer, name: string) {
    this.#key = deriveKey(deriveKey(key, 'torpor files 1'), header.subarray(-saltBytes).toString('hex'));
    this.#bound = Buffer.concat([header, Buffer.from(name)]);
  }

  /** Never the same twice, because the key is this file's alone. */
  #nonce(number: number, isLast: boolean): Buffer {
    const nonce = Buffer.alloc(12);
    nonce.writeBigUInt64LE(BigInt(number), 0);
    nonce.writeUInt32LE(isLast ? 1 : 0, 8);
    return nonce;
  }

  seal(number: number, isLast: boolean, bytes: Buffer): Buffer {
    const sealing = createCipheriv(cipher, this.#key, this.#nonce(number, isLast)).setAAD(this.#bound);
    return Buffer.concat([sealing.update(bytes), sealing.final(), sealing.getAuthTag()]);
  }

  open(number: number, isLast: boolean, frame: Buffer): Buffer {
    if (frame.length < tagBytes) throw new FrameError('it is cut short');
    const opening = createDecipheriv(cipher, this.#key, this.#nonce(number, isLast));
    opening.setAAD(this.#bound).setAuthTag(frame.subarray(-tagBytes));
    const bytes = opening.update(frame.subarray(0, -tagBytes));
    try {
      opening.final();
    } catch {
      throw new FrameError(`its contents are not what was encrypted (frame ${number})`);
    }
    return bytes;
  }
}

function makeHeader({ id }: FileKey): Buffer {
  const numbers = Buffer.alloc(8);
  numbers.writeUInt32LE(formatVersion, 0);
  numbers.writeUInt32LE(frameBytes, 4);
  return Buffer.concat([magic, numbers, Buffer.from(id, 'hex'), randomBytes(saltBytes)]);
}

/** The name of the key that a file needs. @throws FrameError where it is no encrypted file. */
function checkHeader(header: Buffer, { id }: FileKey): void {
  if (header.length < headerBytes || !header.subarray(0, magic.length).equals(magic))
    throw new FrameError('it is no encrypted file');
  if (
    header.readUInt32LE(magic.length) !== formatVersion ||
    header.readUInt32LE(magic.length + 4) !== frameBytes
  )
    throw new FrameError('it is encrypted in a way that this Torpor does not know');
  if (header.toString('hex', magic.length + 8, magic.length + 24) !== id)
    throw new FrameError('it is encrypted by another key');
}

/** So many bytes, or fewer where the file ends. */
async function readFull(file: FileHandle, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  let have = 0;
  while (have < length) {
    const { bytesRead } = await file.read(bytes, have, length - have, null);
    if (bytesRead === 0) break;
    have += bytesRead;
  }
  return bytes.subarray(0, have);
}

const openToRead = (path: string) => open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
const openToWrite = (path: string) => open(path, 'wx', 0o600);

/** Length and SHA-256 of the encrypted file. Its contents are durable then. */
export async function encryptFile(
  source: string,
  target: string,
  name: string,
  key: FileKey,
): Promise<{ sha256: string; bytes: number }> {
  await using from = await openToRead(source);
  await using to = await openToWrite(target);
  const header = makeHeader(key);
  const file = new FileCipher(key, header, name);
  const hash = createHash('sha256');
  let bytes = 0;
  const write = async (part: Buffer) => {
    hash.update(part);
    bytes += part.length;
    await to.writeFile(part);
  };
  await write(header);
  let next = await readFull(from, frameBytes);
  for (let number = 0; ; number++) {
    const following = next.length < frameBytes ? Buffer.alloc(0) : await readFull(from, frameBytes);
    await write(file.seal(number, following.length === 0, next));
    if (following.length === 0) break;
    next = following;
  }
  await to.datasync();
  return { sha256: hash.digest('hex'), bytes };
}

async function decrypt(
  from: FileHandle,
  name: string,
  key: FileKey,
  take: (bytes: Buffer) => Promise<unknown>,
): Promise<void> {
  const header = await readFull(from, headerBytes);
  checkHeader(header, key);
  const file = new FileCipher(key, header, name);
  let next = await readFull(from, frameBytes + tagBytes);
  for (let number = 0; ; number++) {
    const following =
      next.length < frameBytes + tagBytes ? Buffer.alloc(0) : await readFull(from, frameBytes + tagBytes);
    await take(file.open(number, following.length === 0, next));
    if (following.length === 0) break;
    next = following;
  }
}

/** @throws FrameError; then nothing of the file that it wrote is to be used. */
export async function decryptFile(source: string, target: string, name: string, key: FileKey): Promise<void> {
  await using from = await openToRead(source);
  await using to = await openToWrite(target);
  await decrypt(from, name, key, (bytes) => to.writeFile(bytes));
}

/** All of a small file. @throws FrameError */
export async function decryptToBuffer(source: string, name: string, key: FileKey): Promise<Buffer> {
  await using from = await openToRead(source);
  const parts: Buffer[] = [];
  await decrypt(from, name, key, async (bytes) => parts.push(bytes));
  return Buffer.concat(parts);
}
