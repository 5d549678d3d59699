/** The catalogues of texts: well-formed, complete, and with the same values in every language. */
import { parse, TYPE } from '@formatjs/icu-messageformat-parser';
import { describe, expect, it } from 'vitest';
import { de } from '../../renderer/texts/de.ts';
import { en } from '../../renderer/texts/en.ts';
import { chooseLanguage } from '../../renderer/texts/languages.ts';

type Element = ReturnType<typeof parse>[number];

/** Names of the values that a message takes, in all its branches. */
function valuesOf(elements: readonly Element[]): string[] {
  const names = elements.flatMap((element) => {
    if (element.type === TYPE.literal || element.type === TYPE.pound) return [];
    const inside =
      element.type === TYPE.plural || element.type === TYPE.select
        ? Object.values(element.options).flatMap((option) => valuesOf(option.value))
        : [];
    return [element.value, ...inside];
  });
  return [...new Set(names)].sort();
}

const valuesIn = (catalogue: Record<string, string>) =>
  Object.fromEntries(Object.entries(catalogue).map(([id, text]) => [id, valuesOf(parse(text))]));

describe('texts', () => {
  it('are well-formed and take the same values in German as in English', () => {
    expect(valuesIn(de)).toEqual(valuesIn(en));
  });

  it('are translated', () => {
    // Names and what is written alike in both.
    const alike = [
      'app.name',
      'app.title',
      'bundles.passphrase',
      'progress.rate',
      'settings.about',
      'settings.plugins',
    ];
    const same = Object.keys(en).filter((id) => en[id as keyof typeof en] === de[id as keyof typeof en]);
    expect(same.sort()).toEqual(alike);
  });
});

describe('chooseLanguage', () => {
  it.each([
    ['system', 'de_AT.UTF-8', { language: 'de', locale: 'de-AT' }],
    ['system', 'en_GB', { language: 'en', locale: 'en-GB' }],
    ['system', 'fr_FR.UTF-8@euro', { language: 'en', locale: 'en' }],
    ['system', 'C', { language: 'en', locale: 'en' }],
    ['system', '', { language: 'en', locale: 'en' }],
    ['system', 'de_!!', { language: 'de', locale: 'de' }],
    ['de', 'en_US', { language: 'de', locale: 'de' }],
    ['en', 'en_US', { language: 'en', locale: 'en-US' }],
  ] as const)('%s on a desktop in %s', (setting, desktop, expected) => {
    expect(chooseLanguage(setting, desktop)).toEqual(expected);
  });
});
