/**
 * Launch: what is installed, found by typing. The search field has the focus; arrow keys go through the results, Enter
 * starts the first or the one that is reached, and typing goes on in the field from wherever one is.
 */
import { type KeyboardEvent, useEffect, useRef, useState } from 'react';
import type { Application } from '../../main/ipc/view.ts';
import { CallFailed } from '../bridge.ts';
import { useKnown, useModel } from '../model.ts';
import { Glyph } from '../parts/glyph.tsx';
import { useText } from '../texts/use-text.ts';
import { ApplicationTile } from './application-tile.tsx';
import { CommandForm } from './command-form.tsx';
import { ConsentQuestion, type Question } from './consent-question.tsx';
import { filterApplications } from './filter.ts';

/** More than this many do not count as recent. */
const recentCount = 6;

export function Launch() {
  const model = useModel();
  const say = useText();
  const { connection, state } = useKnown();
  const [applications, setApplications] = useState<Application[]>();
  const [query, setQuery] = useState('');
  const [command, setCommand] = useState('');
  const [starting, setStarting] = useState<string>();
  const [question, setQuestion] = useState<Question>();
  const search = useRef<HTMLInputElement>(null);
  const results = useRef<HTMLDivElement>(null);
  const canAsk = connection === 'open';
  const language = state?.settings.language;

  // biome-ignore lint/correctness/useExhaustiveDependencies: names come in the language that is set
  useEffect(() => {
    if (!canAsk) return;
    model.bridge.call('applications.list').then(setApplications, (error) => {
      setApplications((known) => known ?? []);
      model.fail(error);
    });
  }, [model, canAsk, language]);
  useEffect(() => search.current?.focus(), []);

  const found = filterApplications(applications ?? [], query);
  const sound = found.filter(({ problem }) => problem === undefined);
  const broken = found.filter(({ problem }) => problem !== undefined);
  const isSearching = query.trim() !== '';
  const recent = isSearching ? [] : sound.filter(({ usedAt }) => usedAt !== undefined).slice(0, recentCount);
  const rest = sound.filter((application) => !recent.includes(application));

  async function start(name: string, work: (agree: string[]) => Promise<string>, agree: string[] = []) {
    if (starting !== undefined) return;
    setStarting(name);
    model.announce(say('launch.starting', { name }));
    try {
      const workload = await work(agree);
      model.announce(say('launch.started', { name }));
      setQuery('');
      await model.bridge.call('window.open', { kind: 'screen', workload });
    } catch (error) {
      if (error instanceof CallFailed && error.consents.length > 0)
        setQuestion({
          name,
          consents: error.consents,
          agree: () =>
            void start(
              name,
              work,
              error.consents.map(({ id }) => id),
            ),
        });
      else model.fail(error);
    } finally {
      setStarting(undefined);
    }
  }

  const launch = ({ id, name }: Application, action?: string) =>
    start(name, (agree) =>
      model.bridge.call('applications.launch', id, {
        scale: devicePixelRatio,
        agree,
        ...(action === undefined ? {} : { action }),
      }),
    );
  const run = (line: string, terminal: boolean) =>
    start(line, (agree) =>
      model.bridge.call('command.run', line, { terminal, scale: devicePixelRatio, agree }),
    );

  function keyPressed(event: KeyboardEvent) {
    const inSearch = event.target === search.current;
    if (event.key === 'Enter' && inSearch) {
      const [first] = sound;
      if (first !== undefined) void launch(first);
      event.preventDefault();
      return;
    }
    if (event.key === 'Escape' && query !== '') {
      setQuery('');
      search.current?.focus();
      return;
    }
    if (moveFocus(event, results.current, search.current)) event.preventDefault();
    else if (
      !inSearch &&
      event.key.length === 1 &&
      event.key !== ' ' &&
      !event.ctrlKey &&
      !event.altKey &&
      !event.metaKey
    )
      search.current?.focus();
  }

  const tiles = (list: Application[]) => (
    <ul className="tiles">
      {list.map((application) => (
        <ApplicationTile
          key={application.id}
          application={application}
          isStarting={starting === application.name}
          onLaunch={(action) => void launch(application, action)}
        />
      ))}
    </ul>
  );

  return (
    <>
      <header className="page-head">
        <h1>{say('launch.title')}</h1>
      </header>
      <search className="launch" onKeyDown={keyPressed}>
        <div className="search">
          <Glyph name="search" />
          <input
            ref={search}
            type="search"
            value={query}
            onChange={(event) => setQuery(event.target.value)}
            aria-label={say('launch.search')}
            placeholder={say('launch.search.placeholder')}
            autoComplete="off"
            spellCheck={false}
          />
        </div>
        <p className="visually-hidden" role="status">
          {isSearching ? say('launch.found', { count: sound.length }) : ''}
        </p>
        <div ref={results}>
          {applications === undefined ? (
            <p className="quiet">{say('launch.loading')}</p>
          ) : applications.length === 0 ? (
            <p className="quiet">{say('launch.empty')}</p>
          ) : (
            <>
              {recent.length > 0 && (
                <section className="section">
                  <h2>{say('launch.recent')}</h2>
                  {tiles(recent)}
                </section>
              )}
              {rest.length > 0 && (
                <section className="section">
                  <h2>{isSearching ? say('launch.found', { count: rest.length }) : say('launch.all')}</h2>
                  {tiles(rest)}
                </section>
              )}
              {isSearching && found.length === 0 && (
                <div className="nothing">
                  <p>{say('launch.none', { query })}</p>
                  <button
                    type="button"
                    className="button"
                    onClick={() => {
                      setCommand(query);
                      setQuery('');
                    }}
                  >
                    <Glyph name="terminal" />
                    {say('launch.none.command')}
                  </button>
                </div>
              )}
              {broken.length > 0 && (
                <section className="section">
                  <h2>{say('launch.broken')}</h2>
                  {tiles(broken)}
                </section>
              )}
            </>
          )}
        </div>
      </search>
      <CommandForm
        key={command}
        initial={command}
        isBusy={starting !== undefined}
        onRun={(line, terminal) => void run(line, terminal)}
      />
      {question !== undefined && <ConsentQuestion {...question} onClose={() => setQuestion(undefined)} />}
    </>
  );
}

/** Moves between the field and the tiles as they lie on the screen. @returns whether the key was one of those */
function moveFocus(event: KeyboardEvent, results: HTMLElement | null, search: HTMLElement | null): boolean {
  const tiles = [...(results?.querySelectorAll<HTMLElement>('.tile-main') ?? [])];
  const at = tiles.indexOf(event.target as HTMLElement);
  if (at < 0) {
    if (event.target !== search || event.key !== 'ArrowDown') return false;
    tiles[0]?.focus();
    return tiles.length > 0;
  }
  const to = {
    ArrowLeft: at - 1,
    ArrowRight: at + 1,
    ArrowUp: neighbour(tiles, at, -1),
    ArrowDown: neighbour(tiles, at, 1),
    Home: 0,
    End: tiles.length - 1,
  }[event.key];
  if (to === undefined) return false;
  const next = to < 0 ? search : tiles[Math.min(to, tiles.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: 'nearest' });
  return true;
}

/** Index of the nearest tile of the next row in that direction; -1 above the first row. */
function neighbour(tiles: readonly HTMLElement[], at: number, direction: 1 | -1): number {
  const boxes = tiles.map((tile) => tile.getBoundingClientRect());
  const own = boxes[at];
  if (own === undefined) return at;
  const beyond = boxes
    .map((box, index) => ({ box, index }))
    .filter(({ box }) => (box.top - own.top) * direction > own.height / 2);
  if (beyond.length === 0) return direction < 0 ? -1 : at;
  const distance = ({ box }: { box: DOMRect }) =>
    Math.abs(box.top - own.top) * 1000 + Math.abs(box.left - own.left);
  return beyond.reduce((best, each) => (distance(each) < distance(best) ? each : best)).index;
}
