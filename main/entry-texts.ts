/** What the user's desktop shows of Torpor, in every language: menus are not in the language of the app's settings. */
import type { EntryTexts } from './desktop/integration.ts';

export const entryTexts: readonly EntryTexts[] = [
  {
    language: 'en',
    comment: 'Suspend applications to disk and resume them later',
    openIn: 'Open in Torpor',
    suspendAll: 'Suspend all applications',
  },
  {
    language: 'de',
    comment: 'Anwendungen auf die Platte legen und später fortsetzen',
    openIn: 'In Torpor öffnen',
    suspendAll: 'Alle Anwendungen schlafen legen',
  },
];
