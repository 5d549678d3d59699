/** What a command works with: the words it was given, the engine, and where to write. */
import type { EngineClient } from '../api/client.ts';
import type { CommandDefinition, Invocation } from './definition.ts';

export interface Context {
  readonly invocation: Invocation;
  readonly json: boolean;
  /** Connects to the engine, starting it where it does not run; the connection is closed at the end. */
  engine(): Promise<EngineClient>;
  /** Prints the result: the value with `--json`, otherwise the text. */
  result(value: unknown, text: string): void;
  /** Tells something on standard error that is not the result. */
  note(text: string): void;
}

export interface Command {
  readonly definition: CommandDefinition;
  /** @returns the exit code, 0 where it returns nothing. */
  run(context: Context): Promise<number | undefined>;
}
