/** The page: language, title, the frame, and the place that the address names. */
import { lazy, type ReactNode, Suspense, useEffect, useMemo } from 'react';
import { IntlProvider } from 'react-intl';
import type { Place as AnyPlace } from '../main/ipc/view.ts';
import { DefectBoundary } from './defect.tsx';
import { Frame } from './frame.tsx';
import { Home } from './home/home.tsx';
import { SuspendingProvider } from './home/suspend.tsx';
import { type Model, ModelContext, useKnown, useModel } from './model.ts';
import { Notices } from './notices.tsx';
import { hashOf, usePlace } from './place.ts';
import { SessionsProvider } from './sessions/doing.tsx';
import { catalogues, chooseLanguage } from './texts/languages.ts';
import { useText } from './texts/use-text.ts';
import { Unavailable } from './unavailable.tsx';

const Launch = lazy(async () => ({ default: (await import('./launch/launch.tsx')).Launch }));
const Bundles = lazy(async () => ({ default: (await import('./bundles/bundles.tsx')).Bundles }));
const Sessions = lazy(async () => ({ default: (await import('./sessions/sessions.tsx')).Sessions }));
const Snapshots = lazy(async () => ({ default: (await import('./snapshots/snapshots.tsx')).Snapshots }));
const Seen = lazy(async () => ({ default: (await import('./seen.tsx')).Seen }));
const Memory = lazy(async () => ({ default: (await import('./memory/memory.tsx')).Memory }));
const Automatic = lazy(async () => ({ default: (await import('./automatic/automatic.tsx')).Automatic }));
const Settings = lazy(async () => ({ default: (await import('./settings/settings.tsx')).Settings }));

type PagePlace = Exclude<AnyPlace, { kind: 'screen' }>;

export function App({ model }: { model: Model }) {
  return (
    <ModelContext value={model}>
      <Translated>
        <SuspendingProvider>
          <SessionsProvider>
            <Place />
            <Notices />
          </SessionsProvider>
        </SuspendingProvider>
      </Translated>
    </ModelContext>
  );
}

function Translated({ children }: { children: ReactNode }) {
  const { state } = useKnown();
  const setting = state?.settings.language ?? 'system';
  const desktop = state?.locale ?? navigator.language;
  const { language, locale } = useMemo(() => chooseLanguage(setting, desktop), [setting, desktop]);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  return (
    <IntlProvider locale={locale} defaultLocale="en" messages={catalogues[language]}>
      {children}
    </IntlProvider>
  );
}

/** The screen of an application fills its window and has its own title. */
function Place() {
  const place = usePlace();
  const say = useText();
  if (place.kind !== 'screen') return <Page place={place} />;
  return (
    <DefectBoundary say={say} place={hashOf(place)}>
      <Suspense fallback={null}>
        <Seen workload={place.workload} />
      </Suspense>
    </DefectBoundary>
  );
}

function Page({ place }: { place: PagePlace }) {
  const say = useText();
  const title = useTitle(place);
  useEffect(() => {
    document.title = say('app.title', { place: title });
  }, [say, title]);
  return (
    <Frame place={place}>
      <DefectBoundary say={say} place={hashOf(place)}>
        <Suspense fallback={null}>
          <Content place={place} />
        </Suspense>
      </DefectBoundary>
    </Frame>
  );
}

function useTitle(place: PagePlace): string {
  const say = useText();
  const { state } = useKnown();
  switch (place.kind) {
    case 'home':
    case 'launch':
    case 'sessions':
    case 'bundles':
    case 'memory':
    case 'automatic':
    case 'settings':
      return say(`nav.${place.kind}`);
    case 'snapshots': {
      const title = state?.workloads.find(({ id }) => id === place.workload)?.title;
      return say('snapshots.title', { title: title ?? place.workload });
    }
  }
}

function Content({ place }: { place: PagePlace }) {
  const { connection, state } = useKnown();
  const model = useModel();
  const say = useText();
  if (connection === 'lost' || connection === 'refused')
    return (
      <Unavailable
        message={say(`connection.${connection}`)}
        hint={say(`connection.${connection}.hint`)}
        action={{ label: say('connection.retry'), act: () => model.bridge.retry() }}
      />
    );
  if (state === undefined) return <p className="quiet waiting">{say('connection.connecting')}</p>;
  if (place.kind === 'settings') return <Settings />;
  // An engine that was away for a moment is no reason to take away what is looked at.
  if (state.engine.kind === 'connecting' && state.workloads.length === 0)
    return <p className="quiet waiting">{say('engine.connecting')}</p>;
  if (state.engine.kind === 'unavailable') {
    const { message, hint } = state.engine;
    return <Unavailable message={message} hint={hint || say('engine.retrying')} />;
  }
  switch (place.kind) {
    case 'launch':
      return <Launch />;
    case 'sessions':
      return <Sessions />;
    case 'memory':
      return <Memory />;
    case 'automatic':
      return <Automatic />;
    case 'bundles':
      return <Bundles key={place.workload} chosen={place.workload} />;
    case 'snapshots':
      return <Snapshots workload={place.workload} />;
    default:
      return <Home />;
  }
}
