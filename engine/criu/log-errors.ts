/**
 * What went wrong, in a user's words. CRIU says it in its log only: the error of its response is the first line that
 * looked like one, mostly a harmless one. The catalogue (catalogue.ts) maps the messages of CRIU 4.2 that users meet to a
 * sentence and a next step; a message that is not in it is passed on as it is.
 */
import { aboveAll, type CatalogueEntry, catalogue, formats } from './catalogue.ts';

/** A cause in plain words and what to do about it. */
export interface Explanation {
  sentence: string;
  hint: string;
}

/** Errors by name that stop nothing: what CRIU reports on the way on machines with few capabilities. */
const harmless =
  /RLIMIT_NOFILE|rlimit NOFILE|Dumping FAILED|Restoring FAILED|Killing processes because of failure|action scripts failed|RPC client reported script error/;

/** CRIU puts the part that speaks before some messages. */
const subsystem =
  /^(?:inet|unix|netlink|packet|sockets|tcp|fsnotify|tun|tty|mnt|ghost|cg|shmem|pie|file-lock):\s+/;

const errorLine = /\bError \(([^)]*)\): (.*)$/;

/** The messages of CRIU's errors in a log, without time, place and those that mean nothing; in their order. */
export function errorsIn(log: string): string[] {
  const errors: string[] = [];
  for (const line of log.split('\n')) {
    const message = errorLine.exec(line)?.[2]?.trim();
    if (message && !harmless.test(message)) errors.push(message.replace(subsystem, ''));
  }
  return errors;
}

function firstKnown(errors: readonly string[], among: readonly CatalogueEntry[]): Explanation | undefined {
  for (const message of errors) {
    for (const { messages, sentence, hint } of among) {
      for (const pattern of messages) {
        const match = pattern.exec(message);
        if (match !== null) return { sentence: fill(sentence, match.groups ?? {}), hint };
      }
    }
  }
  return undefined;
}

/** `{name}` and `{name:format}` become what the pattern found by that name. */
function fill(sentence: string, found: Readonly<Record<string, string | undefined>>): string {
  return sentence.replace(/\{(\w+)(?::(\w+))?\}/g, (_whole, name: string, format?: string) => {
    const text = found[name] ?? '';
    return format !== undefined && format in formats ? formats[format as keyof typeof formats](text) : text;
  });
}

/** The likeliest cause. @param errors as {@link errorsIn} gives them. @returns undefined where there are none. */
export function explain(errors: readonly string[]): Explanation | undefined {
  const known = firstKnown(errors, aboveAll) ?? firstKnown(errors, catalogue);
  if (known !== undefined) return known;
  const [first] = errors;
  if (first === undefined) return undefined;
  return {
    sentence: `CRIU says: ${first.replace(/\.?$/, '.')}`,
    hint: 'The log beside the failure says more.',
  };
}
