/**
 * Makes docs/ties.md: what ties an application to its surroundings, what the inspection says of each, and what became of
 * it when a process that had exactly that was suspended and resumed on this machine. Needs root and `npm run build`.
 */
import { writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { markdownTable } from '../test/bench/figures.ts';
import { TestEngine } from '../test/support/engine.ts';
import { type TieKind, tieKinds } from '../test/support/tie-kinds.ts';
import { type Outcome, tryInCapsule, tryTree } from '../test/support/ties.ts';

const out = new URL('../docs/ties.md', import.meta.url).pathname;
const isBlocking = ({ finding }: TieKind) => finding?.verdict === 'blocking';

/** A cell of a table: on one line, without what is another one in every run. */
function cell(text: string): string {
  return text
    .replace(/\/var\/tmp\/torpor-ties-\w+\/(?:\w+\.)?/g, '')
    .replace(/\/var\/tmp\/torpor-ties-\w+/g, 'NAME')
    .replace(/(torpor-tie)-\d+(?: \(deleted\))?/g, '$1')
    .replace(/:\d{4,5}\b/g, ':PORT')
    .replace(/\b[\w-]+ \(pid \d+\)/g, 'another process')
    .replace(/\b([Pp]rocess|torpor suspend) \d+/g, '$1 N')
    .replace(/([|<>])/g, '\\$1')
    .trim();
}

function findingOf({ kind, findings }: Outcome): string {
  const expected = kind.finding;
  const found = findings.find(({ tie, what }) => tie === expected?.tie && expected.what.test(what));
  if (found === undefined) return expected === undefined ? 'nothing to say' : `(${expected.verdict})`;
  const by = found.by === '' ? '' : ` by ${found.by === 'criu' ? 'CRIU' : `the ${found.by}`}`;
  const sentence = found.what.replace(/^\S+ \(pid \d+\)/, 'It');
  return cell(`**${found.verdict}**${by}: ${sentence} ${found.hint}`);
}

function happened(outcome: Outcome): string {
  switch (outcome.result) {
    case 'impossible':
      return `not to be had on this machine: ${outcome.why}`;
    case 'works':
      return 'it works afterwards';
    case 'differs':
      return `${isBlocking(outcome.kind) ? 'suspend refused; by CRIU alone: ' : ''}${outcome.how}`;
    case 'not-suspended':
      return `${isBlocking(outcome.kind) ? 'suspend refused; CRIU alone fails: ' : 'suspend fails: '}${outcome.why}`;
    case 'not-resumed':
      return `${isBlocking(outcome.kind) ? 'suspend refused; by CRIU alone the resume fails: ' : 'resume fails: '}${outcome.why}`;
  }
}

const outcomes = new Map<TieKind, Outcome>();
const note = (outcome: Outcome | undefined) => outcome && outcomes.set(outcome.kind, outcome);
const inCapsule = tieKinds.filter(({ where }) => where === 'capsule');
{
  await using engine = await TestEngine.create();
  for (const outcome of await tryInCapsule(
    engine,
    inCapsule.filter((kind) => !isBlocking(kind)),
  ))
    note(outcome);
  for (const kind of inCapsule.filter(isBlocking)) note((await tryInCapsule(engine, [kind]))[0]);
}
for (const kind of tieKinds) if (kind.where === 'tree') note(await tryTree(kind));

const rows = tieKinds.flatMap((kind) => {
  const outcome = outcomes.get(kind);
  if (outcome === undefined) return [];
  return [[kind.words, findingOf(outcome), cell(happened(outcome))]];
});
await writeFile(
  out,
  `# Ties

What ties an application to its surroundings, what \`torpor inspect\` says of it, and what became of it. Made by
\`npm run docs:ties\` from a real run: for every line a process held exactly that tie (\`test/fixtures/ties/\`), was inspected,
suspended and resumed, and then used what it held. Kernel ${release().replace(/-.*/, '')}, CRIU 4.2.1.

*handled*: it works as before, by the engine or by an option of CRIU that the engine chooses. *degraded*: it can be suspended;
the sentence and its hint say what is different afterwards. *blocking*: it is not suspended, and nothing is touched. What
blocks was tried with CRIU alone all the same, so that nothing is blocked needlessly.

A unix socket to a service of the desktop that is known, such as a message bus, a sound server or the X server, and what keeps the
machine from sleeping are in [decision 16](decisions/0016-services.md): what becomes of them depends on whose end it is.

${markdownTable(['tie', 'finding', 'at suspend and resume'], rows)}
`,
);
console.log(`${rows.length} ties in docs/ties.md`);
