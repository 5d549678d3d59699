/** Which applications match what was typed, best first. */
import type { Application } from '../../main/ipc/view.ts';

/**
 * Every word of the query has to be found. A name that begins with it comes before a name that has a word beginning with
 * it, that before the rest of the name, keywords, and the comment; the order within is kept.
 */
export function filterApplications(applications: readonly Application[], query: string): Application[] {
  const words = plain(query).split(/\s+/).filter(Boolean);
  if (words.length === 0) return [...applications];
  return applications
    .map((application) => ({
      application,
      rank: Math.max(...words.map((word) => rankOf(application, word))),
    }))
    .filter(({ rank }) => Number.isFinite(rank))
    .sort((a, b) => a.rank - b.rank)
    .map(({ application }) => application);
}

function rankOf({ name, keywords, comment, id }: Application, word: string): number {
  const title = plain(name);
  if (title.startsWith(word)) return 0;
  if (title.split(/[\s-]+/).some((part) => part.startsWith(word))) return 1;
  if (title.includes(word)) return 2;
  if (keywords.some((keyword) => plain(keyword).startsWith(word))) return 3;
  if (plain(id.replace(/\.desktop$/, '')).includes(word)) return 4;
  if (plain(comment).includes(word)) return 5;
  return Number.POSITIVE_INFINITY;
}

/** Without case and accents, so that "ecran" finds "Écran". */
function plain(text: string): string {
  return text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
}
