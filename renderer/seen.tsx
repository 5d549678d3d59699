/** What a workload is seen in: a job in its terminal, anything else by its screen. */
import { lazy } from 'react';
import { useKnown } from './model.ts';

const ScreenWindow = lazy(async () => ({
  default: (await import('./screen/screen-window.tsx')).ScreenWindow,
}));
const TerminalWindow = lazy(async () => ({
  default: (await import('./terminal/terminal-window.tsx')).TerminalWindow,
}));

export function Seen({ workload }: { workload: string }) {
  const { state } = useKnown();
  const view = state?.workloads.find(({ id }) => id === workload);
  return view?.kind === 'job' ? (
    <TerminalWindow key={view.id} view={view} />
  ) : (
    <ScreenWindow workload={workload} />
  );
}
