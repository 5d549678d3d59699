/** What a caller may choose for a new capsule, checked, with sentences for what is wrong. Pure. */
import { TorporError } from '../../api/errors.ts';

const defaultGeometry = '1280x800';
const smallestSide = 64;
const largestSide = 8192;
/** Of 7680x4320; X server and pictures need four bytes each. */
const largestArea = 7680 * 4320;
const longestApplication = 255;

/** The size of the screen as the X server takes it. @throws TorporError `usage` */
export function geometryOf(wanted: string | undefined): string {
  if (wanted === undefined) return defaultGeometry;
  const [, width = 0, height = 0] = /^(\d{1,5})x(\d{1,5})$/.exec(wanted)?.map(Number) ?? [];
  const fits = [width, height].every((side) => side >= smallestSide && side <= largestSide);
  if (fits && width * height <= largestArea) return `${width}x${height}`;
  throw new TorporError(
    'usage',
    `A screen cannot have the size "${wanted.slice(0, 40)}".`,
    `Give it as WIDTHxHEIGHT, from ${smallestSide}x${smallestSide} to 7680x4320, such as ${defaultGeometry}.`,
  );
}

/** The id of a desktop entry, which is a file's name. @throws TorporError `usage` */
export function applicationOf(wanted: string | undefined): string | undefined {
  if (wanted === undefined) return undefined;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  const isName = /^[^/\u0000-\u001f\u007f]+$/.test(wanted) && wanted !== '.' && wanted !== '..';
  if (isName && Buffer.byteLength(wanted) <= longestApplication) return wanted;
  throw new TorporError(
    'usage',
    `"${wanted.slice(0, 40)}" is no id of a desktop entry.`,
    'It is the name of the entry’s file, such as org.gnome.Calculator.desktop.',
  );
}
