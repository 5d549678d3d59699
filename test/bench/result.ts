/** What the benchmark found out about one subject: medians of its rounds. */
import type { PlainFigures } from './plain-side.ts';
import type { TorporFigures } from './torpor-side.ts';

export interface Result {
  name: string;
  kind: 'memory' | 'application';
  mib: number | undefined;
  isSlow: boolean;
  rounds: number;
  torpor: TorporFigures;
  plain: PlainFigures;
}

/** Until plain criu's images were durable. */
export const plainDurableMs = ({ plain: { dump } }: Result): number => dump.dumpMs + dump.syncMs;
