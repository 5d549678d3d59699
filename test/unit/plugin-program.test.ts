import { expect, it } from 'vitest';
import { lastSentence } from '../../engine/command.ts';

it('finds the error among what a program has said last', () => {
  const node =
    'file:///x.mjs:3\n  throw new Error("no room");\n  ^\n\nError: no room\n    at file:///x.mjs:3:9\n\nNode.js v20.20.2\n';
  expect(lastSentence(node)).toBe('Error: no room');
  const python = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nKeyError: 3\n';
  expect(lastSentence(python)).toBe('KeyError: 3');
  expect(lastSentence('TypeError [ERR_X]: no text\nNode.js v20\n')).toBe('TypeError [ERR_X]: no text');
  expect(lastSentence('starting\nno bus\n')).toBe('no bus');
  expect(lastSentence('')).toBe('');
});
