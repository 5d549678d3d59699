/** What is around every place but a screen: the rail with the places, and the content. */
import { type ReactNode, useEffect, useRef } from 'react';
import type { Place } from '../main/ipc/view.ts';
import { ArrivalBanner } from './arrival.tsx';
import { BundleBanner } from './bundles/banner.tsx';
import { Glyph } from './parts/glyph.tsx';
import { hashOf } from './place.ts';
import { useText } from './texts/use-text.ts';

const places = ['home', 'launch', 'sessions', 'bundles', 'memory', 'automatic', 'settings'] as const;

export function Frame({ place, children }: { place: Place; children: ReactNode }) {
  const say = useText();
  const content = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  const here = hashOf(place);

  // Who goes to another place by keyboard goes on there, and a screen reader begins to read it.
  // biome-ignore lint/correctness/useExhaustiveDependencies: another place is what it waits for
  useEffect(() => {
    if (isFirst.current) isFirst.current = false;
    else if (place.kind !== 'launch') content.current?.focus({ preventScroll: true });
    content.current?.scrollTo(0, 0);
  }, [here]);

  return (
    <div className="frame">
      {/* biome-ignore lint/a11y/useValidAnchor: it goes to a place of this page, but the hash is taken */}
      <a
        className="skip"
        href="#content"
        onClick={(event) => {
          event.preventDefault();
          content.current?.focus();
        }}
      >
        {say('app.skip')}
      </a>
      <nav className="rail" aria-label={say('nav.label')}>
        <p className="brand" aria-hidden="true">
          <img src="/icon.svg" alt="" width="32" height="32" />
          <span className="brand-name">{say('app.name')}</span>
        </p>
        <ul>
          {places.map((kind) => (
            <li key={kind}>
              <a
                href={hashOf({ kind })}
                aria-current={
                  place.kind === kind
                    ? 'page'
                    : kind === 'home' && place.kind === 'snapshots'
                      ? 'true'
                      : undefined
                }
              >
                <Glyph name={kind} />
                <span>{say(`nav.${kind}`)}</span>
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <main ref={content} id="content" tabIndex={-1} className={`content content-${place.kind}`}>
        <div className="column">
          <ArrivalBanner />
          {place.kind !== 'bundles' && <BundleBanner />}
          {children}
        </div>
      </main>
    </div>
  );
}
