/**
 * The applications that are suspended and resumed for real: how each is started, what is done to it before and after,
 * and what of its screen moves by itself and can therefore not be compared.
 */
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { RfbClient } from '../../api/rfb/client.ts';
import { type Box, encodePng } from '../../api/rfb/picture.ts';

const execute = promisify(execFile);

/** GIMP takes up a tool after it has drawn what was before. */
const noticeMs = 500;

export interface Application {
  readonly name: string;
  /** Among the chosen ones that every run of the tests takes. */
  readonly chosen: boolean;
  /** What must be installed. */
  readonly program: string;
  command(home: string): string[];
  /** Writes what it needs into its home folder. */
  prepare?(home: string): Promise<void>;
  act(screen: RfbClient): Promise<void>;
  actAgain(screen: RfbClient): Promise<void>;
  /** Whom it runs as; an ordinary user unless told. */
  readonly user?: 'root';
  /** The only part of the screen that need not come back to the pixel, since it changes by itself, and why it does. */
  readonly moves?: { readonly why: string; readonly where: Box };
  /** A file in its home folder to which it appends rising numbers for as long as it runs, none far from the last. */
  readonly counter?: { readonly file: string; readonly largestStep: number };
}

const write = (home: string, name: string, text: string | Uint8Array) => writeFile(join(home, name), text);

/** A PDF of two pages, as small as one may be. */
function twoPages(): string {
  const page = (text: string) => `BT /F1 40 Tf 60 700 Td (${text}) Tj ET`;
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    '<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>',
    ...[5, 6].map(
      (contents) =>
        `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents ${contents} 0 R /Resources << /Font << /F1 7 0 R >> >> >>`,
    ),
    ...['First page', 'Second page'].map(
      (text) => `<< /Length ${page(text).length} >>\nstream\n${page(text)}\nendstream`,
    ),
    '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>',
  ];
  let text = '%PDF-1.4\n';
  const offsets = objects.map((object, index) => {
    const offset = text.length;
    text += `${index + 1} 0 obj\n${object}\nendobj\n`;
    return offset;
  });
  const table = offsets.map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`).join('');
  return `${text}xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${table}trailer << /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${text.length}\n%%EOF\n`;
}

/** Counts into a file and into the first line of the terminal, and leaves the lines below to what is typed. */
const countingShell = String.raw`printf '\n\n'; i=0
while :; do i=$((i+1)); echo $i >> "$HOME/count"; printf '\0337\033[1;1H%d\0338' $i; sleep 0.05; done & exec cat`;

/** mpv itself writes down where in the film it is, in seconds, with each frame. */
const tellPosition = String.raw`
local file = io.open(os.getenv("HOME") .. "/positions", "a")
mp.observe_property("time-pos", "number", function(_, position)
  if position == nil then return end
  file:write(position, "\n")
  file:flush()
end)
`;

const tkinterTimer = `
import os, tkinter
root = tkinter.Tk()
entry = tkinter.Entry(root, font=("DejaVu Sans", 24), insertontime=0)
entry.pack()
entry.focus_force()
label = tkinter.Label(root, text="0", font=("DejaVu Sans", 24))
label.pack()
counter = open(os.path.expanduser("~/count"), "a", buffering=1)
def tick():
    label["text"] = str(int(label["text"]) + 1)
    counter.write(label["text"] + "\\n")
    root.after(50, tick)
tick()
root.mainloop()
`;

const swing = `
import java.awt.*;
import javax.swing.*;
public class Form {
  public static void main(String[] arguments) {
    SwingUtilities.invokeLater(() -> {
      JFrame frame = new JFrame("Form");
      JTextField field = new JTextField(20);
      field.getCaret().setBlinkRate(0);
      JButton button = new JButton("Press");
      button.addActionListener(event -> button.setText("Pressed"));
      frame.setLayout(new FlowLayout());
      frame.add(field);
      frame.add(button);
      frame.setSize(600, 300);
      frame.setDefaultCloseOperation(JFrame.EXIT_ON_CLOSE);
      frame.setVisible(true);
      field.requestFocusInWindow();
    });
  }
}
`;

const mozillaPreferences = [
  ['browser.aboutwelcome.enabled', false],
  ['browser.shell.checkDefaultBrowser', false],
  ['datareporting.policy.dataSubmissionEnabled', false],
  ['datareporting.policy.firstRunURL', ''],
  ['toolkit.cosmeticAnimations.enabled', false],
  ['ui.prefersReducedMotion', 1],
  ['ui.caretBlinkTime', 0],
  ['general.smoothScroll', false],
  ['mail.provider.suppress_dialog_on_startup', true],
  ['mail.shell.checkDefaultClient', false],
  ['mailnews.start_page.enabled', false],
]
  .map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`)
  .join('');

async function mozillaProfile(home: string): Promise<void> {
  await mkdir(join(home, 'profile'));
  await write(home, 'profile/user.js', mozillaPreferences);
}

async function drag(screen: RfbClient, from: [number, number], to: [number, number]): Promise<void> {
  await screen.pointer(...from);
  await screen.pointer(...from, 1);
  for (let step = 1; step <= 10; step++) {
    const along = (index: 0 | 1) => Math.round(from[index] + ((to[index] - from[index]) * step) / 10);
    await screen.pointer(along(0), along(1), 1);
  }
  await screen.pointer(...to);
}

function whitePicture(width: number, height: number): Promise<Uint8Array> {
  return encodePng({ width, height, rgb: new Uint8Array(width * height * 3).fill(255) });
}

const typing = (before: string, after: string): Pick<Application, 'act' | 'actAgain'> => ({
  act: (screen) => screen.type(before),
  actAgain: (screen) => screen.type(after),
});

export const applications: readonly Application[] = [
  {
    name: 'xterm with a running shell loop',
    chosen: true,
    program: '/usr/bin/xterm',
    command: () => ['xterm', '-e', 'sh', '-c', countingShell],
    counter: { file: 'count', largestStep: 1 },
    moves: { why: 'the loop counts in the first line', where: { x: 0, y: 0, width: 1280, height: 16 } },
    ...typing('before\n', 'after\n'),
  },
  {
    name: 'gnome-calculator',
    chosen: true,
    program: '/usr/bin/gnome-calculator',
    command: () => ['gnome-calculator'],
    act: (screen) => screen.type('12+34'),
    actAgain: (screen) => screen.click(900, 710),
  },
  {
    name: 'mousepad',
    chosen: true,
    program: '/usr/bin/mousepad',
    user: 'root',
    command: () => ['mousepad'],
    ...typing('Unsaved text', ' and more'),
  },
  {
    name: 'GIMP with an unsaved picture',
    chosen: true,
    program: '/usr/bin/gimp',
    prepare: async (home) => write(home, 'white.png', await whitePicture(400, 300)),
    command: (home) => ['gimp', '--no-splash', join(home, 'white.png')],
    act: async (screen) => {
      await screen.click(640, 400);
      await sleep(noticeMs);
      await screen.press('n');
      await sleep(noticeMs);
      await drag(screen, [560, 360], [700, 440]);
    },
    actAgain: (screen) => drag(screen, [700, 360], [560, 440]),
  },
  {
    name: 'tkinter program with a running timer',
    chosen: true,
    program: '/usr/bin/python3',
    prepare: (home) => write(home, 'timer.py', tkinterTimer),
    command: (home) => ['/usr/bin/python3', join(home, 'timer.py')],
    counter: { file: 'count', largestStep: 1 },
    moves: { why: 'the timer counts', where: { x: 0, y: 44, width: 1280, height: 50 } },
    ...typing('before', 'after'),
  },
  {
    name: 'terminal with tmux, vim and htop',
    chosen: true,
    program: '/usr/bin/tmux',
    command: (home) => [
      ...['xterm', '-e', 'tmux', '-f', '/dev/null', 'new-session', `vim -u NONE ${join(home, 'notes')}`, ';'],
      ...['set', 'status', 'off', ';', 'split-window', 'htop', ';', 'select-pane', '-t', '0'],
    ],
    moves: { why: 'htop shows the processors', where: { x: 0, y: 418, width: 1280, height: 382 } },
    ...typing('iUnsaved line', ' and more'),
  },
  {
    name: 'geany',
    chosen: false,
    program: '/usr/bin/geany',
    user: 'root',
    command: () => ['geany', '--no-plugins'],
    ...typing('Unsaved text', ' and more'),
  },
  {
    name: 'LibreOffice Writer with unsaved text',
    chosen: false,
    program: '/usr/bin/soffice',
    command: () => ['soffice', '--writer', '--norestore', '--nologo', '--nofirststartwizard'],
    ...typing('Unsaved text', ' and more'),
  },
  {
    name: 'Inkscape',
    chosen: false,
    program: '/usr/bin/inkscape',
    prepare: (home) =>
      write(
        home,
        'box.svg',
        '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="200"><rect x="50" y="50" width="100" height="100"/></svg>',
      ),
    command: (home) => ['inkscape', join(home, 'box.svg')],
    act: (screen) => screen.press('ctrl+a'),
    actAgain: (screen) => screen.press('Delete'),
  },
  {
    name: 'KCalc (Qt)',
    chosen: false,
    program: '/usr/bin/kcalc',
    user: 'root',
    command: () => ['kcalc'],
    ...typing('12+34', '\n'),
  },
  {
    name: 'Java Swing program',
    chosen: false,
    program: '/usr/bin/java',
    prepare: (home) => write(home, 'Form.java', swing),
    command: (home) => ['java', join(home, 'Form.java')],
    act: (screen) => screen.type('before'),
    actAgain: async (screen) => {
      await screen.type(' after');
      await screen.click(753, 17);
    },
  },
  {
    name: 'mpv playing a film',
    chosen: false,
    program: '/usr/bin/mpv',
    prepare: async (home) => {
      await write(home, 'position.lua', tellPosition);
      // The left half stays black, so that what mpv says about itself there can be compared.
      const film = 'testsrc=duration=180:size=320x360:rate=25,pad=640:360:320:0';
      const encoding = ['-preset', 'ultrafast', '-pix_fmt', 'yuv420p'];
      await execute('ffmpeg', [
        ...['-loglevel', 'error', '-f', 'lavfi', '-i', film],
        ...encoding,
        join(home, 'film.mp4'),
      ]);
    },
    command: (home) => [
      ...['mpv', '--osc=no', '--osd-duration=600000', `--script=${join(home, 'position.lua')}`],
      join(home, 'film.mp4'),
    ],
    counter: { file: 'positions', largestStep: 0.5 },
    // Scaling blurs the film's edge into the black half by some pixels.
    moves: { why: 'the film plays', where: { x: 620, y: 0, width: 660, height: 800 } },
    act: (screen) => screen.press('m'),
    actAgain: (screen) => screen.press(']'),
  },
  {
    name: 'Evince with a PDF',
    chosen: false,
    program: '/usr/bin/evince',
    prepare: (home) => write(home, 'two.pdf', twoPages()),
    command: (home) => ['evince', join(home, 'two.pdf')],
    act: (screen) => screen.press('pagedown'),
    actAgain: (screen) => screen.press('pageup'),
  },
  {
    name: 'Thunderbird',
    chosen: false,
    program: '/usr/bin/thunderbird',
    prepare: mozillaProfile,
    command: (home) => ['thunderbird', '--no-remote', '--profile', join(home, 'profile')],
    act: async (screen) => {
      await screen.press('ctrl+k');
      await screen.type('unsaved');
    },
    actAgain: (screen) => screen.type(' words'),
  },
  {
    name: 'Firefox with a page scrolled half-way',
    chosen: false,
    program: '/usr/bin/firefox-esr',
    prepare: async (home) => {
      await mozillaProfile(home);
      const lines = Array.from({ length: 200 }, (_, line) => `<p>Line ${line}</p>`).join('\n');
      await write(home, 'page.html', `<!doctype html><meta charset="utf-8"><title>Page</title>${lines}`);
    },
    command: (home) => [
      'firefox-esr',
      '--no-remote',
      '--profile',
      join(home, 'profile'),
      `file://${join(home, 'page.html')}`,
    ],
    act: async (screen) => {
      await screen.click(640, 500);
      for (let page = 0; page < 5; page++) await screen.press('pagedown');
    },
    actAgain: (screen) => screen.press('pageup'),
  },
];
