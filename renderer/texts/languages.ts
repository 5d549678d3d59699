/** The languages there are, and which one is to be shown. */
import type { AppState } from '../../main/ipc/view.ts';
import type { Catalogue } from './catalogue.ts';
import { de } from './de.ts';
import { en } from './en.ts';

export type Language = 'en' | 'de';

export const catalogues: Record<Language, Catalogue> = { en, de };

/** As a language calls itself. */
export const ownNames: Record<Language, string> = { en: 'English', de: 'Deutsch' };

/**
 * The language of the texts and the locale of dates and numbers. `desktop` is a POSIX locale such as `de_AT.UTF-8`, or
 * a language tag; a language that there are no texts in gives English.
 */
export function chooseLanguage(
  setting: AppState['settings']['language'],
  desktop: string,
): { language: Language; locale: string } {
  const tag = desktop.replace(/[.@].*$/, '').replaceAll('_', '-');
  const [base = ''] = tag.toLowerCase().split('-');
  const wanted = setting === 'system' ? base : setting;
  const language: Language = wanted === 'de' ? 'de' : 'en';
  return { language, locale: base === language && isLocale(tag) ? tag : language };
}

function isLocale(tag: string): boolean {
  try {
    return Intl.DateTimeFormat.supportedLocalesOf(tag).length > 0;
  } catch {
    return false;
  }
}
