/**
 * What becomes of a connection to a service outside where the user has not chosen: by what its protocol makes of a new
 * connection, and what programs make of one that has ended. A table of data, of which docs/decisions/0016-services.md
 * gives the reasons; a service that is in no line of it blocks the suspend, as everything unknown does.
 */

/** What becomes of a connection where nobody has chosen. */
export type Usual =
  /** A new connection is as good as the old one, once nothing is under way on it. */
  | { kind: 'reconnect'; isAsked: boolean; hint: string }
  /** A connection of ours stands in for it (buslines.ts). */
  | { kind: 'bus'; hint: string }
  /** The program finds it closed, which such programs are used to. */
  | { kind: 'hang-up'; hint: string }
  /** Programs end themselves when this connection does, so the suspend is refused, and why is said. */
  | { kind: 'block'; hint: string };

interface Line {
  /** As `serviceOf` (engine/inspect/services.ts) names it. */
  service: string;
  /** Which of its sockets; all where there is none. */
  path?: RegExp;
  usual: Usual;
}

const agent: Usual = {
  kind: 'reconnect',
  isAsked: true,
  hint: 'It is connected again at the resume, if the agent is there then; what the agent knows of this connection alone, as which host it is for, is lost.',
};
const sound: Usual = {
  kind: 'hang-up',
  hint: 'After the resume it finds the sound server gone, and is silent until it connects anew, which most players do when they are told to play.',
};
const screen =
  'Such a program ends itself when its screen hangs up, so it is not let go of by default. Start it with `torpor run`: in a capsule its screen is suspended with it.';

const again =
  'It is connected again at the resume, with the names that it has and what it listens to; without that bus it is not resumed. What it has asked for and not heard is lost.';
/** Which connection has asked for that, and what for, no service tells. */
const sessionBus: Usual = {
  kind: 'bus',
  hint: `${again} Where it keeps the screen from being locked or dimmed (ScreenSaver, PowerManagement), that ends with the suspend and is not asked for again: which program does, the bus does not tell. Stop and start again what it is for, such as a film; or start it with \`torpor run\`, where that is seen.`,
};
const systemBus: Usual = {
  kind: 'bus',
  hint: `${again} So is what services keep for it for as long as it is connected, but for what keeps the machine from sleeping.`,
};

/** The first line that fits wins. */
const lines: readonly Line[] = [
  {
    service: 'the system log',
    path: /^\/dev\/log$|\/systemd\/journal\/dev-log$/,
    usual: {
      kind: 'reconnect',
      isAsked: false,
      hint: 'It sends to it again after the resume, on a new connection.',
    },
  },
  {
    service: 'the system log',
    path: /\/systemd\/journal\/stdout$/,
    usual: {
      kind: 'block',
      hint: 'What it prints goes to the journal over this connection, and printing to one that has ended would end it. Start it with its output in a file, or from a terminal.',
    },
  },
  { service: 'the session bus', usual: sessionBus },
  { service: 'the system bus', usual: systemBus },
  { service: 'the SSH agent', usual: agent },
  { service: 'the keyring', path: /\/\.?ssh$/, usual: agent },
  { service: 'the GnuPG agent', path: /\/S\.gpg-agent\.ssh$/, usual: agent },
  {
    service: 'the GnuPG agent',
    usual: {
      kind: 'hang-up',
      hint: 'After the resume what it was doing with keys fails, and can be done again: what was agreed on with the agent belongs to this connection.',
    },
  },
  { service: 'the sound server PulseAudio', usual: sound },
  { service: 'the sound and video server PipeWire', usual: sound },
  {
    service: 'the accessibility bus',
    usual: {
      kind: 'hang-up',
      hint: 'After the resume screen readers do not hear from it until it is started again.',
    },
  },
  {
    service: 'the input method',
    usual: {
      kind: 'hang-up',
      hint: 'After the resume it connects to the input method anew, or is typed into without one until it is started again.',
    },
  },
  { service: 'the X server', usual: { kind: 'block', hint: screen } },
  { service: 'the Wayland compositor', usual: { kind: 'block', hint: screen } },
];

/** @param service as `serviceOf` names it. @param path where it listens; empty where that is not known. */
export function usualOf(service: string | undefined, path: string): Usual | undefined {
  return lines.find((line) => line.service === service && (line.path === undefined || line.path.test(path)))
    ?.usual;
}
