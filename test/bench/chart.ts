/**
 * Bars side by side as an SVG, readable on a light and on a dark page: a panel for each thing measured, in it a group of
 * bars for each subject, each bar with its value.
 */

export interface Bar {
  value: number;
  label: string;
}

export interface Group {
  name: string;
  /** One for each series; undefined where there is no such value. */
  bars: readonly (Bar | undefined)[];
}

export interface Panel {
  title: string;
  groups: readonly Group[];
}

export interface Chart {
  title: string;
  /** Told apart by colour: at most as many as there are {@link colours}. */
  series: readonly string[];
  panels: readonly Panel[];
}

/** On a light and on a dark page; each pair differs in lightness too, so that colour alone is not needed. */
const colours = [
  ['#1f6fd6', '#62a4f5'],
  ['#8f959e', '#7c838d'],
  ['#c98a1b', '#d9a441'],
] as const;

const columns = 2;
const panelWidth = 550;
const margin = 20;
const nameWidth = 225;
/** For the value beside the longest bar. */
const labelWidth = 80;
const barHeight = 11;
const barGap = 2;
const groupGap = 9;
const titleHeight = 30;
const headHeight = 64;
const smallestBar = 1;

const escaped = (text: string) =>
  text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');

const rounded = (value: number) => Number(value.toFixed(1));

const styles = () => {
  const rules = (dark: 0 | 1, ink: string, quiet: string) =>
    [
      `text{fill:${ink}}`,
      `.quiet{fill:${quiet}}`,
      `.axis{stroke:${quiet}}`,
      ...colours.map((pair, index) => `.s${index}{fill:${pair[dark]}}`),
    ].join('');
  const dark = rules(1, '#e6e9ee', '#9aa1ab');
  return `<style>text{font-family:system-ui,sans-serif;font-size:12px}.title{font-size:16px;font-weight:600}.panel{font-size:13px;font-weight:600}${rules(0, '#1f2430', '#646b76')}@media(prefers-color-scheme:dark){${dark}}</style>`;
};

function groupHeight(chart: Chart): number {
  return chart.series.length * (barHeight + barGap) + groupGap;
}

function panelHeight(chart: Chart, panel: Panel): number {
  return titleHeight + panel.groups.length * groupHeight(chart) + margin;
}

function drawBar(bar: Bar | undefined, series: number, x: number, y: number, largest: number): string {
  if (bar === undefined) return `<text class="quiet" x="${x + 4}" y="${y + barHeight - 1}">–</text>`;
  const room = panelWidth - nameWidth - labelWidth - margin;
  const width = Math.max(smallestBar, largest > 0 ? (bar.value / largest) * room : 0);
  return [
    `<rect class="s${series}" x="${x}" y="${y}" width="${rounded(width)}" height="${barHeight}" rx="1.5"/>`,
    `<text class="quiet" x="${rounded(x + width + 5)}" y="${y + barHeight - 1}">${escaped(bar.label)}</text>`,
  ].join('');
}

function drawPanel(chart: Chart, panel: Panel, left: number, top: number): string {
  const values = panel.groups.flatMap(({ bars }) => bars.map((bar) => bar?.value ?? 0));
  const largest = Math.max(0, ...values);
  const x = left + nameWidth;
  const groups = panel.groups.map(({ name, bars }, index) => {
    const y = top + titleHeight + index * groupHeight(chart);
    const middle = y + (chart.series.length * (barHeight + barGap)) / 2 + 3;
    const drawn = bars.map((bar, series) =>
      drawBar(bar, series, x, y + series * (barHeight + barGap), largest),
    );
    return `<g><text x="${x - 8}" y="${rounded(middle)}" text-anchor="end">${escaped(name)}</text>${drawn.join('')}</g>`;
  });
  const bottom = top + titleHeight + panel.groups.length * groupHeight(chart) - groupGap / 2;
  return [
    `<text class="panel" x="${left}" y="${top + 14}">${escaped(panel.title)}</text>`,
    ...groups,
    `<path class="axis" d="M${x - 1} ${top + titleHeight - 4}V${rounded(bottom)}"/>`,
  ].join('\n');
}

/** @throws RangeError where there are more series than colours, or a group has another number of bars */
export function drawChart(chart: Chart): string {
  if (chart.series.length > colours.length)
    throw new RangeError(`a chart has at most ${colours.length} series`);
  for (const { groups } of chart.panels)
    for (const { name, bars } of groups)
      if (bars.length !== chart.series.length) throw new RangeError(`${name} needs one bar for each series`);

  const width = columns * (panelWidth + margin) + margin;
  const parts: string[] = [];
  let top = headHeight;
  for (let first = 0; first < chart.panels.length; first += columns) {
    const row = chart.panels.slice(first, first + columns);
    parts.push(
      ...row.map((panel, column) => drawPanel(chart, panel, margin + column * (panelWidth + margin), top)),
    );
    top += Math.max(...row.map((panel) => panelHeight(chart, panel)));
  }
  const legend = chart.series.map((name, series) => {
    const x = margin + series * 260;
    return `<rect class="s${series}" x="${x}" y="40" width="12" height="12" rx="2"/><text x="${x + 18}" y="50">${escaped(name)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top}" width="${width}" height="${top}" role="img" aria-label="${escaped(chart.title)}">`,
    styles(),
    `<text class="title" x="${margin}" y="26">${escaped(chart.title)}</text>`,
    ...legend,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}
