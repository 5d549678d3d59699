/** Which language the app speaks. */
import type { Settings } from '../ipc/view.ts';
import { de } from './de.ts';
import { en, type Texts } from './en.ts';

/**
 * The texts in the language that is set, or else in the desktop's; in English where there are none in that.
 * @param locale of the desktop, such as `de_AT.UTF-8`
 */
export function textsIn(language: Settings['language'], locale: string): Texts {
  return languageIn(language, locale) === 'de' ? de : en;
}

/** The same for texts that come from elsewhere. */
export function languageIn(language: Settings['language'], locale: string): 'en' | 'de' {
  const wanted = language === 'system' ? locale : language;
  return /^de(?![a-z])/i.test(wanted) ? 'de' : 'en';
}
