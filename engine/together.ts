/**
 * As Promise.all, but what fails is thrown only when nothing is under way any more: for work on files that are removed
 * where it has failed.
 */
export async function together<T>(parts: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(parts);
  return await Promise.all(parts);
}
