/** The choices that commands have in common which suspend or resume something. */
import { TorporError } from '../api/errors.ts';
import { connectionChoices, longestWait, type SuspendOptions, socketChoices } from '../api/types.ts';
import type { Context } from './context.ts';
import type { OptionDefinition } from './definition.ts';

/** Undefined where the user leaves it to the engine. @throws TorporError `usage`. */
export function choiceOf<T extends string>(
  context: Context,
  option: string,
  choices: readonly T[],
  what: string,
): T | undefined {
  const given = context.invocation.value(option);
  const choice = choices.find((each) => each === given);
  if (choice !== undefined || given === undefined) return choice;
  throw new TorporError(
    'usage',
    `"${given}" is nothing that can become of ${what}.`,
    `Give --${option} one of: ${choices.join(', ')}.`,
  );
}

/** @throws TorporError `usage`. */
export function secondsOf(context: Context, option: string): number | undefined {
  const given = context.invocation.value(option);
  if (given === undefined) return undefined;
  const count = /^\d{1,4}$/.test(given) ? Number(given) : -1;
  if (count >= 0 && count <= longestWait) return count;
  throw new TorporError(
    'usage',
    `"${given}" is no number of seconds.`,
    `Give --${option} a number from 0 to ${longestWait}.`,
  );
}

/** What becomes of what leads outside. */
export const socketOptions: readonly OptionDefinition[] = [
  {
    name: 'external-sockets',
    value: 'reconnect|hang-up|block',
    summary:
      'What becomes of unix sockets to programs outside: connected again at the resume, found closed, or nothing is suspended. By default that is a matter of what is known of each (docs/decisions/0016-services.md); what is not known blocks.',
  },
  {
    name: 'connections',
    value: 'keep|close',
    summary:
      'What becomes of TCP connections: they go on after the resume where both ends still agree, which is the default for a job, or are closed as if the other side had hung up, which is the default for an application.',
  },
];

/** @throws TorporError `usage`. */
export function suspendChoices(context: Context): Omit<SuspendOptions, 'leaveRunning'> {
  const externalSockets = choiceOf(context, 'external-sockets', socketChoices, 'external sockets');
  const connections = choiceOf(context, 'connections', connectionChoices, 'network connections');
  return {
    ...(externalSockets === undefined ? {} : { externalSockets }),
    ...(connections === undefined ? {} : { connections }),
  };
}
