/**
 * The tray's menu on the bus: com.canonical.dbusmenu, version 3, which hosts show as a menu of their own. Entries are
 * known by numbers, which stay with an entry as long as it means the same, so that a menu that is open can change.
 */
import { isDeepStrictEqual } from 'node:util';
import { Variant } from '@jellybrick/dbus-next';
import type { TrayItem } from '../../shells/shell.ts';
import { type BusInterface, invalid } from './bus-object.ts';

export const menuInterface = 'com.canonical.dbusmenu';

const root = 0;
type Properties = Record<string, Variant>;

interface Entry {
  readonly number: number;
  readonly properties: Properties;
  readonly children: Entry[];
  readonly act?: () => void;
}

/** What the hosts are to be told about a new menu. */
export type MenuSignal = [signal: 'ItemsPropertiesUpdated' | 'LayoutUpdated', body: unknown[]];

/** A single underscore would underline the character behind it. */
const escapeMnemonics = (label: string) => label.replaceAll('_', '__');

const text = (value: string) => new Variant('s', value);
const yes = new Variant('b', true);
const no = new Variant('b', false);

/** Only what differs from the protocol's defaults, which are a standard entry that is visible and enabled. */
function propertiesOf(item: TrayItem): Properties {
  if (item.kind === 'separator') return { type: text('separator') };
  const label = text(escapeMnemonics(item.label));
  switch (item.kind) {
    case 'label':
      return { label, enabled: no };
    case 'command':
      return { label, ...enabledOf(item.enabled), ...iconOf(item.icon) };
    case 'check':
      return {
        label,
        ...enabledOf(item.enabled),
        'toggle-type': text('checkmark'),
        'toggle-state': new Variant('i', item.checked ? 1 : 0),
      };
    case 'submenu':
      return { label, 'children-display': text('submenu'), ...iconOf(item.icon) };
  }
}

const enabledOf = (enabled: boolean): Properties => (enabled ? {} : { enabled: no });
const iconOf = (png: Uint8Array | undefined): Properties =>
  png === undefined ? {} : { 'icon-data': new Variant('ay', Buffer.from(png)) };

/** What a host may ask for by name although it has its default. */
const defaults: Properties = {
  type: text('standard'),
  label: text(''),
  enabled: yes,
  visible: yes,
  'icon-name': text(''),
  'toggle-type': text(''),
  'toggle-state': new Variant('i', -1),
  'children-display': text(''),
};

function chosen(properties: Properties, names: readonly string[]): Properties {
  if (names.length === 0) return properties;
  return Object.fromEntries(Object.entries(properties).filter(([name]) => names.includes(name)));
}

export class DBusMenu {
  readonly #numbers = new Map<string, number>();
  #entries = new Map<number, Entry>();
  #revision = 1;
  #root: Entry;

  constructor(items: readonly TrayItem[]) {
    this.#root = this.#build(items);
  }

  /**
   * Replaces the menu. @returns the signals that are due.
   * @throws TypeError where two entries have the same id; the menu stays as it was.
   */
  set(items: readonly TrayItem[]): MenuSignal[] {
    const before = this.#entries;
    const layoutBefore = layoutOf(this.#root);
    this.#root = this.#build(items);
    const signals: MenuSignal[] = [];

    const updated: [number, Properties][] = [];
    const removed: [number, string[]][] = [];
    for (const [number, { properties }] of this.#entries) {
      const old = before.get(number)?.properties;
      if (old === undefined) continue;
      const changed = Object.entries(properties).filter(
        ([name, value]) => !isDeepStrictEqual(value, old[name]),
      );
      if (changed.length > 0) updated.push([number, Object.fromEntries(changed)]);
      const gone = Object.keys(old).filter((name) => !(name in properties));
      if (gone.length > 0) removed.push([number, gone]);
    }
    if (updated.length > 0 || removed.length > 0)
      signals.push(['ItemsPropertiesUpdated', [updated, removed]]);
    if (!isDeepStrictEqual(layoutBefore, layoutOf(this.#root))) {
      this.#revision++;
      signals.push(['LayoutUpdated', [this.#revision, root]]);
    }
    return signals;
  }

  #build(items: readonly TrayItem[]): Entry {
    const entries = new Map<number, Entry>();
    const build = (item: TrayItem): Entry => {
      // What became another kind of entry is another entry to a host.
      const key = `${item.kind}:${item.id}`;
      const number = this.#numbers.get(key) ?? this.#numbers.size + 1;
      if (entries.has(number)) throw new TypeError(`two entries of the tray's menu have the id ${item.id}`);
      this.#numbers.set(key, number);
      const entry: Entry = {
        number,
        properties: propertiesOf(item),
        children: [],
        ...((item.kind === 'command' || item.kind === 'check') && item.enabled && { act: item.act }),
      };
      entries.set(number, entry);
      if (item.kind === 'submenu') entry.children.push(...item.items.map(build));
      return entry;
    };
    const top: Entry = {
      number: root,
      properties: { 'children-display': text('submenu') },
      children: items.map(build),
    };
    entries.set(root, top);
    this.#entries = entries;
    return top;
  }

  #entry(number: unknown): Entry {
    const entry = this.#entries.get(number as number);
    if (entry === undefined) throw invalid(`The menu has no entry ${String(number)}.`);
    return entry;
  }

  /** Entry, properties and children down to `depth` more levels, all of them if it is negative. */
  #layout(entry: Entry, depth: number, names: readonly string[]): [number, Properties, Variant[]] {
    const children =
      depth === 0
        ? []
        : entry.children.map((child) => new Variant('(ia{sv}av)', this.#layout(child, depth - 1, names)));
    return [entry.number, chosen(entry.properties, names), children];
  }

  /** Runs what a clicked entry stands for; what else happens to entries is of no interest. */
  #event(number: unknown, event: unknown): void {
    const entry = this.#entry(number);
    if (event === 'clicked') entry.act?.();
  }

  /** As it is put on the bus. @param status `notice` where the menu asks for attention */
  interface(status: () => 'normal' | 'notice'): BusInterface {
    const values: Record<string, () => unknown> = {
      Version: () => 3,
      TextDirection: () => 'ltr',
      Status: status,
      IconThemePath: () => [],
    };
    return {
      name: menuInterface,
      properties: { Version: 'u', TextDirection: 's', Status: 's', IconThemePath: 'as' },
      get: (property) => values[property]?.(),
      signals: {
        ItemsPropertiesUpdated: [
          ['updatedProps', 'a(ia{sv})'],
          ['removedProps', 'a(ias)'],
        ],
        LayoutUpdated: [
          ['revision', 'u'],
          ['parent', 'i'],
        ],
        ItemActivationRequested: [
          ['id', 'i'],
          ['timestamp', 'u'],
        ],
      },
      methods: {
        GetLayout: {
          input: [
            ['parentId', 'i'],
            ['recursionDepth', 'i'],
            ['propertyNames', 'as'],
          ],
          output: [
            ['revision', 'u'],
            ['layout', '(ia{sv}av)'],
          ],
          call: (parent, depth, names) => [
            this.#revision,
            this.#layout(this.#entry(parent), depth as number, names as string[]),
          ],
        },
        GetGroupProperties: {
          input: [
            ['ids', 'ai'],
            ['propertyNames', 'as'],
          ],
          output: [['properties', 'a(ia{sv})']],
          call: (ids, names) => {
            const asked = ids as number[];
            const numbers = asked.length === 0 ? [...this.#entries.keys()] : asked;
            return [
              numbers.flatMap((number) => {
                const entry = this.#entries.get(number);
                return entry === undefined ? [] : [[number, chosen(entry.properties, names as string[])]];
              }),
            ];
          },
        },
        GetProperty: {
          input: [
            ['id', 'i'],
            ['name', 's'],
          ],
          output: [['value', 'v']],
          call: (number, name) => {
            const value = { ...defaults, ...this.#entry(number).properties }[name as string];
            if (value === undefined)
              throw invalid(`The entry ${String(number)} has no property ${String(name)}.`);
            return [value];
          },
        },
        Event: {
          input: [
            ['id', 'i'],
            ['eventId', 's'],
            ['data', 'v'],
            ['timestamp', 'u'],
          ],
          output: [],
          call: (number, event) => {
            this.#event(number, event);
            return [];
          },
        },
        EventGroup: {
          input: [['events', 'a(isvu)']],
          output: [['idErrors', 'ai']],
          call: (events) => {
            const list = events as [number, string, Variant, number][];
            const unknown = list.filter(([number]) => !this.#entries.has(number)).map(([number]) => number);
            if (list.length > 0 && unknown.length === list.length)
              throw invalid('The menu has none of these entries.');
            for (const [number, event] of list) if (this.#entries.has(number)) this.#event(number, event);
            return [unknown];
          },
        },
        AboutToShow: {
          input: [['id', 'i']],
          output: [['needUpdate', 'b']],
          call: (number) => {
            this.#entry(number);
            return [false];
          },
        },
        AboutToShowGroup: {
          input: [['ids', 'ai']],
          output: [
            ['updatesNeeded', 'ai'],
            ['idErrors', 'ai'],
          ],
          call: (ids) => [[], (ids as number[]).filter((number) => !this.#entries.has(number))],
        },
      },
    };
  }
}

/** The shape alone: which entries are where. */
function layoutOf(entry: Entry): unknown[] {
  return [entry.number, ...entry.children.map(layoutOf)];
}
