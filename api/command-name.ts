/** What a process tree is called that nobody gave a name. */
import { basename } from 'node:path';

/** What runs programs that are files of their own; the file says more than it does. */
const interpreters = /^-?(?:ba|da|z|k|fi|a)?sh$|^(?:python|perl|ruby|node|php|lua|Rscript)[\d.]*$/;

/** What a user would call it: the script where it is one, otherwise the program. Pure. */
export function nameOfCommand(command: readonly string[]): string {
  const [program = '', ...args] = command;
  const name = basename(program).replace(/^-/, '');
  if (!interpreters.test(basename(program))) return name || 'job';
  const script = args.find((word) => !word.startsWith('-'));
  const isCode = args.some((word) => /^-[A-Za-z]*[ceE]$/.test(word));
  return (script !== undefined && !isCode && basename(script)) || name || 'job';
}
