/**
 * The tray's icon on the bus: org.kde.StatusNotifierItem, as the freedesktop specification "Status Notifier Item" and the
 * desktops that show it have it (they all use the kde name). https://specifications.freedesktop.org/status-notifier-item/
 */
import type { TrayModel } from '../../shells/shell.ts';
import { drawTrayIcon, type TrayLook, trayLook } from '../icon.ts';
import type { BusInterface } from './bus-object.ts';

export const itemInterface = 'org.kde.StatusNotifierItem';
export const itemPath = '/StatusNotifierItem';
export const menuPath = '/MenuBar';

/** Of panels at single and double scale; a host takes the one that fits best, or scales down the largest. */
const sizes = [22, 24, 32, 48, 64];

/** One size of an icon: width, height, and rows of ARGB with 8 bits each, alpha first (network byte order). */
type Pixmap = [width: number, height: number, argb: Buffer];

/** Looks are few; each is drawn once. */
const drawn = new Map<string, Pixmap[]>();

function pixmaps(look: TrayLook): Pixmap[] {
  const key = JSON.stringify(look);
  const known = drawn.get(key);
  if (known !== undefined) return known;
  const made = sizes.map((size): Pixmap => [size, size, argbOf(drawTrayIcon(look, size))]);
  drawn.set(key, made);
  return made;
}

function argbOf(rgba: Uint8Array): Buffer {
  const argb = Buffer.alloc(rgba.length);
  for (let at = 0; at < rgba.length; at += 4) {
    argb[at] = rgba[at + 3] ?? 0;
    argb.set(rgba.subarray(at, at + 3), at + 1);
  }
  return argb;
}

/** A tooltip's text may hold some HTML, so what is not meant as such is escaped. */
const escapeMarkup = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

const properties = {
  Category: 's',
  Id: 's',
  Title: 's',
  Status: 's',
  WindowId: 'i',
  IconThemePath: 's',
  IconName: 's',
  IconPixmap: 'a(iiay)',
  IconAccessibleDesc: 's',
  OverlayIconName: 's',
  OverlayIconPixmap: 'a(iiay)',
  AttentionIconName: 's',
  AttentionIconPixmap: 'a(iiay)',
  AttentionMovieName: 's',
  ToolTip: '(sa(iiay)ss)',
  ItemIsMenu: 'b',
  Menu: 'o',
} as const;

const point = [
  ['x', 'i'],
  ['y', 'i'],
] as const;

/** Which signals tell a host that a model has replaced another, with their arguments. */
export function itemSignals(before: TrayModel, after: TrayModel): [signal: string, body: unknown[]][] {
  const changes: [string, unknown[]][] = [];
  if (before.title !== after.title) changes.push(['NewTitle', []]);
  if (JSON.stringify(trayLook(before)) !== JSON.stringify(trayLook(after))) changes.push(['NewIcon', []]);
  if (statusOf(before) !== statusOf(after)) {
    changes.push(['NewAttentionIcon', []], ['NewStatus', [statusOf(after)]]);
  }
  if (before.tooltip !== after.tooltip) changes.push(['NewToolTip', []]);
  return changes;
}

const statusOf = (model: TrayModel) => (model.status === 'attention' ? 'NeedsAttention' : 'Active');

function valuesOf(model: TrayModel): Record<keyof typeof properties, unknown> {
  const icon = pixmaps(trayLook(model));
  return {
    Category: 'ApplicationStatus',
    Id: 'torpor',
    Title: model.title,
    Status: statusOf(model),
    WindowId: 0,
    IconThemePath: '',
    // Without a name the pixels are taken, which can show what is going on.
    IconName: '',
    IconPixmap: icon,
    IconAccessibleDesc: model.tooltip,
    OverlayIconName: '',
    OverlayIconPixmap: [],
    AttentionIconName: '',
    // Xfce's panel shows this one whatever the status, if there is one.
    AttentionIconPixmap: model.status === 'attention' ? icon : [],
    AttentionMovieName: '',
    ToolTip: ['', [], model.title, escapeMarkup(model.tooltip)],
    ItemIsMenu: false,
    Menu: menuPath,
  };
}

/** @param model what is shown at the moment. @param activate what a click does. */
export function itemOf(model: () => TrayModel, activate: () => void): BusInterface {
  const run = () => {
    activate();
    return [];
  };
  return {
    name: itemInterface,
    methods: {
      Activate: { input: point, output: [], call: run },
      SecondaryActivate: { input: point, output: [], call: run },
      // Called by hosts that cannot show our menu; the window has all that is in it.
      ContextMenu: { input: point, output: [], call: run },
      Scroll: {
        input: [
          ['delta', 'i'],
          ['orientation', 's'],
        ],
        output: [],
        call: () => [],
      },
    },
    signals: {
      NewTitle: [],
      NewIcon: [],
      NewAttentionIcon: [],
      NewOverlayIcon: [],
      NewToolTip: [],
      NewStatus: [['status', 's']],
    },
    properties,
    get: (property) => valuesOf(model())[property as keyof typeof properties],
  };
}
