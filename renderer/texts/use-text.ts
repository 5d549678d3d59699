/** Texts and figures in the user's language, for components. */
import { useMemo } from 'react';
import { useIntl } from 'react-intl';
import { type Figures, makeFigures } from '../figures.ts';
import type { MessageId, Values } from './catalogue.ts';

/** A text by its id, with exactly the values that it names. */
export type Text = <Id extends MessageId>(
  id: Id,
  ...values: [Values<Id>] extends [never] ? [] : [Values<Id>]
) => string;

export function useText(): Text {
  const intl = useIntl();
  return useMemo(
    () =>
      (id, ...values) =>
        String(
          intl.formatMessage({ id: id as string }, values[0] as Record<string, string | number> | undefined),
        ),
    [intl],
  );
}

export function useFigures(): Figures {
  const { locale } = useIntl();
  return useMemo(() => makeFigures(locale), [locale]);
}
