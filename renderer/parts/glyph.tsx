/** The pictograms of the interface: strokes on a 20 by 20 grid, in the colour of the text beside them. */

const paths = {
  home: 'M3.5 9.2 10 3.8l6.5 5.4v7a.8.8 0 0 1-.8.8H12v-4.6H8V17H4.3a.8.8 0 0 1-.8-.8z',
  launch: 'M4 4h4.5v4.5H4zM11.5 4H16v4.5h-4.5zM4 11.5h4.5V16H4zM13.75 11v5.5M11 13.75h5.5',
  sessions: 'M7 3.5h9.5V11H7zM13.5 11v2.8H4V6.3h3M10.5 13.8v2.7',
  bundles: 'M7.5 9V5.2h5V9M5.5 9h9v4.5a3 3 0 0 1-3 3h-3a3 3 0 0 1-3-3zM9 6.9h.01M11 6.9h.01',
  memory:
    'M5.5 5.5h9v9h-9zM8 8.2h4v3.6H8zM7.5 3v2.5M12.5 3v2.5M7.5 14.5V17M12.5 14.5V17M3 7.5h2.5M3 12.5h2.5M14.5 7.5H17M14.5 12.5H17',
  automatic:
    'M10 3.5v3M10 13.5v3M3.5 10h3M13.5 10h3M5.4 5.4l2.1 2.1M12.5 12.5l2.1 2.1M14.6 5.4l-2.1 2.1M7.5 12.5l-2.1 2.1',
  settings:
    'M3 6h7.5M14.5 6H17M3 14h2.5M9.5 14H17M12.5 8a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM7.5 16a2 2 0 1 0 0-4 2 2 0 0 0 0 4z',
  moon: 'M16.2 12.2A6.8 6.8 0 0 1 7.8 3.8a6.8 6.8 0 1 0 8.4 8.4z',
  play: 'M6.5 4.2v11.6l9-5.8z',
  more: 'M4.5 10h.01M10 10h.01M15.5 10h.01',
  close: 'm5 5 10 10M15 5 5 15',
  back: 'M16 10H4.5m4.7-4.7L4.5 10l4.7 4.7',
  forward: 'M4 10h11.5m-4.7-4.7 4.7 4.7-4.7 4.7',
  pin: 'M7 3.5h6M8 3.5v5L5.5 12h9L12 8.5v-5M10 12v5',
  trash: 'M4 5.5h12M8 5.5V3.8h4v1.7M5.5 5.5l.7 10.7h7.6l.7-10.7',
  copy: 'M7 7h9v9H7zM4 13V4h9',
  search: 'M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM13 13l4 4',
  window: 'M3 4.5h14v11H3zM3 7.8h14',
  terminal: 'M3 4.5h14v11H3zM6 8.2l2.3 2L6 12.2M10.3 12.5H13.5',
  camera: 'M3 6.5h3.2L7.5 4.5h5l1.3 2H17v9H3zM10 13.3a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z',
  history: 'M3.8 7.5A6.8 6.8 0 1 1 3.3 11M3.3 4.3v3.4h3.4M10 6.5V10l2.5 1.7',
  end: 'M10 3.5v6M6.3 5.5a6 6 0 1 0 7.4 0',
  eye: 'M2.5 10S5.2 5 10 5s7.5 5 7.5 5-2.7 5-7.5 5-7.5-5-7.5-5zM10 12.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4z',
  alert: 'M10 3.5 17.5 16h-15zM10 8v3.8M10 13.9v.01',
  pause: 'M7 4.5v11M13 4.5v11',
} as const;

export type GlyphName = keyof typeof paths;

export function Glyph({ name }: { name: GlyphName }) {
  return (
    <svg className={`glyph glyph-${name}`} viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  );
}
