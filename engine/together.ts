/**
 * As Promise.all, but what fails is thrown only when nothing is under way any more: for work on files that are removed
 * where it has failed.
 */
export async function together<T extends readonly unknown[] | []>(
  parts: T,
): Promise<{ -readonly [P in keyof T]: Awaited<T[P]> }> {
  await Promise.allSettled(parts);
  return await Promise.all(parts);
}
