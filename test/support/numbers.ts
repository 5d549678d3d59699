/** Numbers that are the same in every run: an additive generator (Knuth, The Art of Computer Programming, 3.2.2). */
export function* numbers(seed: number): Generator<number, never> {
  const state = Array.from(
    { length: 55 },
    (_, index) => (seed * 7919 + index * index * 104_729 + index) >>> 0,
  );
  for (let at = 0; ; at++) {
    const value = ((state[at % 55] ?? 0) + (state[(at + 31) % 55] ?? 0)) >>> 0;
    state[at % 55] = value;
    yield value;
  }
}
