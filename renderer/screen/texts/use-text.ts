/** The texts of the screen window in the user's language, for its components. */
import { useMemo } from 'react';
import { createIntl, useIntl } from 'react-intl';
import type { ScreenCatalogue, ScreenMessageId, ScreenValues } from './catalogue.ts';
import { screenDe } from './de.ts';
import { screenEn } from './en.ts';

/** A text by its id, with exactly the values that it names. */
export type ScreenText = <Id extends ScreenMessageId>(
  id: Id,
  ...values: [ScreenValues<Id>] extends [never] ? [] : [ScreenValues<Id>]
) => string;

const catalogues: Record<string, ScreenCatalogue> = { en: screenEn, de: screenDe };

export function useScreenText(): ScreenText {
  const { locale } = useIntl();
  return useMemo(() => {
    const messages = catalogues[locale.split('-')[0] ?? ''] ?? screenEn;
    const intl = createIntl({ locale, messages: { ...messages } });
    return (id, ...values) =>
      intl.formatMessage({ id: id as string }, values[0] as Record<string, string | number> | undefined);
  }, [locale]);
}
