/** Names of shortcuts, such as `Control+Alt+S`, from keys that are pressed. */

interface Pressed {
  key: string;
  code: string;
  ctrlKey: boolean;
  altKey: boolean;
  shiftKey: boolean;
  metaKey: boolean;
}

const named: Record<string, string> = {
  ArrowUp: 'Up',
  ArrowDown: 'Down',
  ArrowLeft: 'Left',
  ArrowRight: 'Right',
  ' ': 'Space',
  '+': 'Plus',
};

/**
 * The shortcut that is pressed; empty where it lacks a modifier, without which every such key would be taken from all
 * applications; undefined while only modifiers are held.
 */
export function acceleratorOf({
  key,
  code,
  ctrlKey,
  altKey,
  shiftKey,
  metaKey,
}: Pressed): string | undefined {
  if (['Control', 'Alt', 'AltGraph', 'Shift', 'Meta', 'Dead', 'Process', 'Unidentified'].includes(key))
    return undefined;
  const isFunctionKey = /^F\d{1,2}$/.test(key);
  if (!ctrlKey && !altKey && !metaKey && !isFunctionKey) return '';
  // By the place of the key, because Alt and Shift change what it writes.
  const letter = /^(?:Key([A-Z])|Digit(\d))$/.exec(code);
  const name = letter?.[1] ?? letter?.[2] ?? named[key] ?? (key.length === 1 ? key.toUpperCase() : key);
  return [ctrlKey && 'Control', altKey && 'Alt', shiftKey && 'Shift', metaKey && 'Super', name]
    .filter(Boolean)
    .join('+');
}
