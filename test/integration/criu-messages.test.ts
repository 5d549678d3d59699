/** The catalogue of CRIU's errors, compared with what the CRIU that is used here can print at all. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { aboveAll, catalogue } from '../../engine/criu/catalogue.ts';
import { findInstallation } from '../../engine/installation.ts';

const { criu } = findInstallation();

/** What the C library adds to a message (strerror(3)). */
const reasons = [
  'No such file or directory',
  'No such process',
  'File exists',
  'Permission denied',
  'No space left on device',
  'Disk quota exceeded',
  'Cannot allocate memory',
  'Too many open files',
  'Address already in use',
  'Invalid cross-device link',
];

/** What stands in messages for paths and the like; the last word is often a reason. */
const names = ['name', '(null)', '/secretmem', 'time_for_children', ...reasons];
/** 262 is the protocol MPTCP. */
const numbers = ['12', '262'];

/** The messages in a program, with something in place of what printf(3) would fill in. */
function messagesIn(program: string): string[] {
  const texts = readFileSync(program, 'latin1').match(/[\x20-\x7e\t]{6,}/g) ?? [];
  const filled = texts.flatMap((text) =>
    numbers.flatMap((number) => {
      const some = text.replace(/%[-#0-9.*]*(?:hh|h|ll|l|z|j)?[diuxXop]/g, number).replace(/%c/g, 'S');
      return names.map((name) => some.replace(/%[-0-9.*]*s/g, name).replace(/%%/g, '%'));
    }),
  );
  return [...new Set(filled)];
}

/** `a|b` as two patterns, where the bar stands in no parentheses. */
function alternatives({ source, flags }: RegExp): RegExp[] {
  const parts = [''];
  let depth = 0;
  for (const [token] of source.matchAll(/\\.|\[(?:\\.|[^\]])*\]|./g)) {
    if (token === '(') depth++;
    if (token === ')') depth--;
    if (token === '|' && depth === 0) parts.push('');
    else parts[parts.length - 1] += token;
  }
  return parts.map((part) => new RegExp(part, flags));
}

/** What is said where CRIU is built for other processors, for SELinux, or to save eBPF. */
const ofOtherBuilds = /high memory region|selinux|BPF map/;

describe.skipIf(!existsSync(criu))('the catalogue', () => {
  const messages = messagesIn(criu);
  const printable = [...messages, ...messages.map((each) => `${each}: File exists`), ...reasons];
  const patterns = [...aboveAll, ...catalogue]
    .flatMap((entry) => entry.messages.flatMap(alternatives))
    .filter(({ source }) => !ofOtherBuilds.test(source));

  it.each(patterns.map((pattern) => [String(pattern), pattern] as const))(
    'has what CRIU prints: %s',
    (_, pattern) => {
      expect(printable.some((message) => pattern.test(message))).toBe(true);
    },
  );
});
