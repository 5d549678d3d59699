/** An icon for what has none: a letter on a tile, of a colour that stays the same for the same name. Pure. */

/** Of even lightness and readable under white, around the wheel. */
const colours = ['#4f5d95', '#3c6e71', '#7a5195', '#8c5a3c', '#a04668', '#40724c', '#4a6fa5', '#6b5b95'];

/** An SVG of 64 by 64 units. */
export function letterTile(name: string): string {
  const letter = [...name.trim()].find((each) => /\p{L}|\p{N}/u.test(each))?.toUpperCase() ?? '?';
  const sum = [...name].reduce((hash, each) => (hash * 31 + (each.codePointAt(0) ?? 0)) >>> 0, 7);
  const colour = colours[sum % colours.length];
  return (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">' +
    `<rect x="2" y="2" width="60" height="60" rx="14" fill="${colour}"/>` +
    '<text x="32" y="33" font-family="sans-serif" font-size="34" font-weight="600" fill="#fff" ' +
    `text-anchor="middle" dominant-baseline="central">${letter}</text></svg>`
  );
}
