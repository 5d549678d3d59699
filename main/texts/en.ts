/** The app's own texts in English: what the tray says. This is the list that every other language must have whole. */
import type { BundleEnd, Notice } from '../ipc/view.ts';
import { bytes, dayAndTime, percent, plural } from './format.ts';

const language = 'en';

export const en = {
  language,
  tray: {
    title: 'Torpor',
    running: 'Running',
    suspended: 'Suspended',
    nothing: 'No applications yet',
    open: 'Open window',
    suspend: 'Suspend',
    takeSnapshot: 'Take a snapshot',
    cancel: 'Cancel',
    suspending: (name: string, share?: number): string =>
      share === undefined ? `${name}: suspending …` : `${name}: suspending ${percent(language, share)}`,
    resuming: (name: string, share?: number): string =>
      share === undefined ? `${name}: resuming …` : `${name}: resuming ${percent(language, share)}`,
    cancelling: (name: string): string => `${name}: cancelling …`,
    napping: (name: string): string => `${name} (napping)`,
    /** Tells applications of the same name apart. */
    since: (name: string, iso: string): string => `${name} (since ${dayAndTime(language, iso)})`,
    more: (count: number): string =>
      plural(language, count, { one: '# more in Torpor …', other: '# more in Torpor …' }),
    suspendAll: 'Suspend all',
    resumeLast: 'Resume last session',
    freed: (count: number): string => `${bytes(language, count)} of memory freed`,
    pause: 'Pause automatic suspending',
    openTorpor: 'Open Torpor',
    quit: 'Quit Torpor',
    connecting: 'Waiting for the engine …',
    unavailable: 'The engine is not available',
    countRunning: (count: number): string =>
      plural(language, count, { one: '# running', other: '# running' }),
    countSuspended: (count: number): string =>
      plural(language, count, { one: '# suspended', other: '# suspended' }),
    paused: 'Automatic suspending is paused',
    busy: (names: readonly string[]): string => `In progress: ${new Intl.ListFormat(language).format(names)}`,
  },
  automation: {
    memoryIsShort: (name: string, gain: number): Notice => ({
      level: 'warning',
      message: 'Memory is running short.',
      hint: `Suspending ${name} would free up to ${bytes(language, gain)}.`,
    }),
    suspendedForMemory: (name: string, gain: number): Notice => ({
      level: 'info',
      message: `${name} was suspended because memory was running short.`,
      hint: `${bytes(language, gain)} are free again. It comes back with one click.`,
    }),
    snapshotRemoved: (name: string, size: number): Notice => ({
      level: 'info',
      message: `An old snapshot of ${name} was removed to keep to the limit.`,
      hint: `That makes room for ${bytes(language, size)}. Keep a snapshot that must stay.`,
    }),
    intervalFails: (name: string, count: number, reason: string): Notice => ({
      level: 'warning',
      message: `The last ${count} snapshots of ${name} could not be taken: ${reason}`,
      hint: 'It runs on, and the next one is tried in its turn. Its older snapshots are there.',
    }),
    roomNotMade: (reason: string): Notice => ({
      level: 'warning',
      message: `No room could be made for snapshots: ${reason}`,
      hint: 'Remove some yourself, or allow them more in the settings.',
    }),
  },
  shortcut: {
    notHad: (keys: string): Notice => ({
      level: 'warning',
      message: `The keys ${keys} could not be had as a shortcut.`,
      hint: 'Another program has them, or this desktop does not give any. Choose others in the settings.',
    }),
    nothingOpen: {
      level: 'info',
      message: 'No application of Torpor has a window open.',
      hint: 'Open one, then press the keys again.',
    } as Notice,
  },
  /** How a bundle ended, where no window shows it. */
  bundle: (end: BundleEnd): Notice => {
    switch (end.kind) {
      case 'exported':
        return {
          level: 'info',
          message:
            end.drive === undefined ? 'The bundle is complete.' : `It is safe to remove ${end.drive} now.`,
          hint: `${end.path} has all of it, synced and read back.`,
        };
      case 'imported':
        return {
          level: 'info',
          message: plural(language, end.workloads.length, {
            one: 'One application was brought in.',
            other: '# applications were brought in.',
          }),
          hint: '',
        };
      case 'failed':
        return { level: 'error', message: end.message, hint: end.hint };
    }
  },
  remedies: {
    end: (name: string): string => `End ${name}`,
  },
  entries: {
    comment: 'Suspend applications to disk and resume them later',
    openIn: 'Open in Torpor',
    suspendAll: 'Suspend all applications',
  },
};

/** All texts, in whichever language. */
export type Texts = typeof en;
