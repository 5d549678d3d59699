/** What runs in the user's terminals: Torpor did not start it, and can suspend it all the same. */
import { useEffect, useState } from 'react';
import type { ProgramView } from '../../main/ipc/view.ts';
import { type Model, useAppState, useModel, useNow } from '../model.ts';
import { Glyph } from '../parts/glyph.tsx';
import { useFigures, useText } from '../texts/use-text.ts';
import { useSuspending } from './suspend.tsx';

/** Nobody tells when a program starts or ends, so it is looked for while somebody looks. */
const lookEveryMs = 3000;

export function Programs() {
  const programs = usePrograms();
  const say = useText();
  if (programs.length === 0) return null;
  return (
    <section className="section">
      <h2>
        {say('programs.title')} <span className="count">{programs.length}</span>
      </h2>
      <p className="quiet">{say('programs.text')}</p>
      <ul className="programs">
        {programs.map((program) => (
          <Program key={program.pid} program={program} />
        ))}
      </ul>
    </section>
  );
}

function Program({ program: { pid, name, command, startedAt } }: { program: ProgramView }) {
  const say = useText();
  const figures = useFigures();
  const now = useNow();
  const { inspecting, start } = useSuspending();
  const isBusy = inspecting.has(String(pid));
  const ago = figures.ago(startedAt, now) ?? say('since.now');
  return (
    <li className="program" data-pid={pid}>
      <div className="program-text">
        <h3>{name}</h3>
        <p className="meta">
          {say('programs.facts', { pid, ago })} <code>{command}</code>
        </p>
      </div>
      <button
        type="button"
        className="button"
        aria-label={isBusy ? undefined : say('card.suspend.name', { title: name })}
        disabled={isBusy}
        onClick={() => void start({ workload: { id: String(pid), title: name }, keepRunning: false })}
      >
        <Glyph name="moon" />
        {isBusy ? say('card.inspecting') : say('card.suspend')}
      </button>
    </li>
  );
}

/** Looked for anew while the page is seen, and when a workload comes or goes. */
function usePrograms(): ProgramView[] {
  const model = useModel();
  const { workloads } = useAppState();
  const [programs, setPrograms] = useState<ProgramView[]>([]);
  const states = workloads.map(({ id, state }) => `${id} ${state}`).join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: what has become a workload is no longer one of these
  useEffect(() => {
    let isWanted = true;
    const look = async () => {
      const found = document.hidden ? undefined : await list(model);
      if (isWanted && found !== undefined) setPrograms(found);
    };
    void look();
    const timer = setInterval(() => void look(), lookEveryMs);
    return () => {
      isWanted = false;
      clearInterval(timer);
    };
  }, [model, states]);
  return programs;
}

/** Undefined where it cannot be asked, which the connection's own sentence tells. */
async function list(model: Model): Promise<ProgramView[] | undefined> {
  try {
    return await model.bridge.call('programs.list');
  } catch {
    return undefined;
  }
}
