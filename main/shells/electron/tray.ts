/** Electron's tray from the app's model of it. */
import { Menu, type MenuItemConstructorOptions, nativeImage, Tray } from 'electron';
import { drawTrayIcon, trayLook } from '../../tray/icon.ts';
import type { TrayItem, TrayModel } from '../shell.ts';

const iconPixels = 24;
const scales = [1, 2] as const;

export class ElectronTray implements Disposable {
  #tray: Tray | undefined;
  readonly #activate: () => void;

  constructor(activate: () => void) {
    this.#activate = activate;
  }

  set(model: TrayModel): void {
    const image = iconOf(model);
    if (this.#tray === undefined) {
      this.#tray = new Tray(image);
      this.#tray.on('click', this.#activate);
    } else this.#tray.setImage(image);
    this.#tray.setTitle(model.title);
    this.#tray.setToolTip(model.tooltip);
    // On Linux a menu that has changed is only shown when it is set again.
    this.#tray.setContextMenu(Menu.buildFromTemplate(model.items.map(menuItem)));
  }

  [Symbol.dispose](): void {
    this.#tray?.destroy();
    this.#tray = undefined;
  }
}

function iconOf(model: TrayModel) {
  const image = nativeImage.createEmpty();
  for (const scaleFactor of scales) {
    const size = iconPixels * scaleFactor;
    const buffer = bgraOf(drawTrayIcon(trayLook(model), size));
    image.addRepresentation({ scaleFactor, width: size, height: size, buffer });
  }
  return image;
}

/** Electron takes bitmaps as Skia has them on little-endian machines, with the colours multiplied by alpha. */
function bgraOf(rgba: Uint8Array): Buffer {
  const bgra = Buffer.alloc(rgba.length);
  for (let at = 0; at < rgba.length; at += 4) {
    const [red = 0, green = 0, blue = 0, alpha = 0] = rgba.subarray(at, at + 4);
    bgra.set(
      [blue, green, red].map((colour) => Math.round((colour * alpha) / 255)),
      at,
    );
    bgra[at + 3] = alpha;
  }
  return bgra;
}

function menuItem(item: TrayItem): MenuItemConstructorOptions {
  switch (item.kind) {
    case 'separator':
      return { id: item.id, type: 'separator' };
    case 'label':
      return { id: item.id, label: labelOf(item.label), enabled: false };
    case 'command': {
      const { id, label, enabled, icon, act } = item;
      return {
        id,
        label: labelOf(label),
        enabled,
        click: act,
        ...(icon && { icon: nativeImage.createFromBuffer(Buffer.from(icon)).resize({ height: 16 }) }),
      };
    }
    case 'check': {
      const { id, label, enabled, checked, act } = item;
      return { id, label: labelOf(label), type: 'checkbox', enabled, checked, click: act };
    }
    case 'submenu':
      return { id: item.id, label: labelOf(item.label), submenu: item.items.map(menuItem) };
  }
}

/** A single ampersand would underline the character behind it. */
const labelOf = (label: string) => label.replaceAll('&', '&&');
