/** The app's own texts in German. */
import type { Texts } from './en.ts';
import { bytes, dayAndTime, percent, plural } from './format.ts';

const language = 'de';

export const de: Texts = {
  language,
  tray: {
    title: 'Torpor',
    running: 'Läuft',
    suspended: 'Schläft',
    nothing: 'Noch keine Anwendungen',
    open: 'Fenster öffnen',
    suspend: 'Schlafen legen',
    takeSnapshot: 'Momentaufnahme machen',
    cancel: 'Abbrechen',
    suspending: (name, share) =>
      share === undefined
        ? `${name}: wird schlafen gelegt …`
        : `${name}: wird schlafen gelegt, ${percent(language, share)}`,
    resuming: (name, share) =>
      share === undefined
        ? `${name}: wird aufgeweckt …`
        : `${name}: wird aufgeweckt, ${percent(language, share)}`,
    cancelling: (name) => `${name}: wird abgebrochen …`,
    napping: (name) => `${name} (döst)`,
    since: (name, iso) => `${name} (seit ${dayAndTime(language, iso)})`,
    more: (count) =>
      plural(language, count, { one: '# weitere in Torpor …', other: '# weitere in Torpor …' }),
    suspendAll: 'Alle schlafen legen',
    resumeLast: 'Letzte Sitzung aufwecken',
    freed: (count) => `${bytes(language, count)} Speicher frei geworden`,
    pause: 'Automatik anhalten',
    openTorpor: 'Torpor öffnen',
    quit: 'Torpor beenden',
    connecting: 'Warten auf die Engine …',
    unavailable: 'Die Engine ist nicht erreichbar',
    countRunning: (count) => plural(language, count, { one: '# läuft', other: '# laufen' }),
    countSuspended: (count) => plural(language, count, { one: '# schläft', other: '# schlafen' }),
    paused: 'Die Automatik ist angehalten',
    busy: (names) => `In Arbeit: ${new Intl.ListFormat(language).format(names)}`,
  },
  automation: {
    memoryIsShort: (name, gain) => ({
      level: 'warning',
      message: 'Der Speicher wird knapp.',
      hint: `${name} schlafen zu legen würde bis zu ${bytes(language, gain)} frei machen.`,
    }),
    suspendedForMemory: (name, gain) => ({
      level: 'info',
      message: `${name} wurde schlafen gelegt, weil der Speicher knapp wurde.`,
      hint: `${bytes(language, gain)} sind wieder frei. Ein Klick weckt die Anwendung auf.`,
    }),
    snapshotRemoved: (name, size) => ({
      level: 'info',
      message: `Eine alte Momentaufnahme von ${name} wurde entfernt, damit die Grenze eingehalten wird.`,
      hint: `Das schafft ${bytes(language, size)} Platz. Was bleiben muss, lässt sich behalten.`,
    }),
    intervalFails: (name, count, reason) => ({
      level: 'warning',
      message: `Die letzten ${count} Momentaufnahmen von ${name} waren nicht möglich: ${reason}`,
      hint: 'Es läuft weiter, und die nächste wird versucht, wenn sie an der Reihe ist. Ältere Momentaufnahmen sind da.',
    }),
    roomNotMade: (reason) => ({
      level: 'warning',
      message: `Für Momentaufnahmen ließ sich kein Platz schaffen: ${reason}`,
      hint: 'Einige selbst entfernen oder in den Einstellungen mehr erlauben.',
    }),
  },
  shortcut: {
    notHad: (keys) => ({
      level: 'warning',
      message: `Die Tasten ${keys} waren als Kürzel nicht zu haben.`,
      hint: 'Ein anderes Programm hat sie, oder dieser Desktop vergibt keine. In den Einstellungen lassen sich andere wählen.',
    }),
    nothingOpen: {
      level: 'info',
      message: 'Keine Anwendung von Torpor hat ein Fenster offen.',
      hint: 'Eines öffnen und die Tasten noch einmal drücken.',
    },
  },
  bundle: (end) => {
    switch (end.kind) {
      case 'exported':
        return {
          level: 'info',
          message:
            end.drive === undefined
              ? 'Das Bündel ist vollständig.'
              : `${end.drive} kann jetzt entfernt werden.`,
          hint: `${end.path} hat alles, gesichert und zurückgelesen.`,
        };
      case 'imported':
        return {
          level: 'info',
          message: plural(language, end.workloads.length, {
            one: 'Eine Anwendung wurde hereingeholt.',
            other: '# Anwendungen wurden hereingeholt.',
          }),
          hint: '',
        };
      case 'failed':
        return { level: 'error', message: end.message, hint: end.hint };
    }
  },
  remedies: {
    end: (name) => `${name} beenden`,
  },
  entries: {
    comment: 'Anwendungen auf die Platte schlafen legen und später aufwecken',
    openIn: 'In Torpor öffnen',
    suspendAll: 'Alle Anwendungen schlafen legen',
  },
};
