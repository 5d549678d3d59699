import { beforeEach, expect, it } from 'vitest';
import { Keys } from '../../main/web/tokens.ts';

let now: number;
let keys: Keys;

beforeEach(() => {
  now = 0;
  keys = new Keys(() => now);
});

it('exchanges a token once, and makes 256 bits of each secret', () => {
  const token = keys.newToken({ lasting: false });
  expect(Buffer.from(token, 'base64url')).toHaveLength(32);
  const session = keys.exchange(token) ?? '';
  expect(Buffer.from(session, 'base64url')).toHaveLength(32);
  expect(keys.isSession(session)).toBe(true);
  expect(keys.exchange(token)).toBeUndefined();
  expect(keys.exchange(session)).toBeUndefined();
  expect(keys.isSession(token)).toBe(false);
});

it('forgets a token that waited for more than a minute, but for one that the user was shown', () => {
  const [short, lasting] = [keys.newToken({ lasting: false }), keys.newToken({ lasting: true })];
  now = 60_001;
  expect(keys.exchange(short)).toBeUndefined();
  expect(keys.exchange(lasting)).toBeDefined();
});

it('takes a token until its minute is over', () => {
  const token = keys.newToken({ lasting: false });
  now = 60_000;
  expect(keys.exchange(token)).toBeDefined();
});

it.each(['', 'x', 'A'.repeat(43)])('opens nothing for %j', (made) => {
  keys.newToken({ lasting: true });
  keys.newSession();
  expect(keys.exchange(made)).toBeUndefined();
  expect(keys.isSession(made)).toBe(false);
});
