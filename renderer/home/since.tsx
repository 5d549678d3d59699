/** When an application came into its state: "suspended 5 minutes ago", which stays true while one looks at it. */
import type { WorkloadView } from '../../main/ipc/view.ts';
import { useNow } from '../model.ts';
import { useFigures, useText } from '../texts/use-text.ts';

/** Starting takes a moment; what came into its state later than this after its start was resumed. */
const startMs = 5000;

export function Since({ workload: { state, since, startedAt } }: { workload: WorkloadView }) {
  const say = useText();
  const figures = useFigures();
  const now = useNow();
  const ago = figures.ago(since, now) ?? say('since.now');
  const wasResumed = Date.parse(since) - Date.parse(startedAt) > startMs;
  return (
    <time dateTime={since} title={figures.moment(since)}>
      {state !== 'running' && state !== 'suspending'
        ? ago
        : wasResumed
          ? say('since.resumed', { ago })
          : say('since.started', { ago })}
    </time>
  );
}
