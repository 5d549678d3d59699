/** The user's language, as the desktop has it (locale(7)). */

export interface Locale {
  language: string;
  country?: string;
  modifier?: string;
}

/** Such as `de_DE.UTF-8@euro`; undefined for `C` and `POSIX`. */
export function parseLocale(text: string): Locale | undefined {
  const [, language, country, modifier] =
    /^([A-Za-z]{2,3})(?:_([A-Za-z0-9]+))?(?:\.[^@]*)?(?:@(.+))?$/.exec(text) ?? [];
  if (language === undefined) return undefined;
  return {
    language,
    ...(country === undefined ? {} : { country }),
    ...(modifier === undefined ? {} : { modifier }),
  };
}

/** For messages: LC_ALL wins over LC_MESSAGES over LANG, and LANGUAGE's first over all unless there is none of them. */
export function userLocale(env: NodeJS.ProcessEnv): Locale {
  const own = [env.LC_ALL, env.LC_MESSAGES, env.LANG].find(Boolean);
  const locale = own === undefined ? undefined : parseLocale(own);
  const preferred = locale && env.LANGUAGE ? parseLocale(env.LANGUAGE.split(':')[0] ?? '') : undefined;
  return preferred ?? locale ?? { language: 'en' };
}

export const localeName = ({ language, country }: Locale) =>
  country === undefined ? language : `${language}_${country}`;

/** Keys of a localized value from the best to the plain one, after the Desktop Entry Specification 1.5, section 5. */
export function localizedKeys(key: string, { language, country, modifier }: Locale): string[] {
  const names = [
    country !== undefined && modifier !== undefined ? `${language}_${country}@${modifier}` : undefined,
    country !== undefined ? `${language}_${country}` : undefined,
    modifier !== undefined ? `${language}@${modifier}` : undefined,
    language,
  ];
  return [...names.flatMap((name) => (name === undefined ? [] : [`${key}[${name}]`])), key];
}
