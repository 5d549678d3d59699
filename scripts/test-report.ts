/**
 * What vitest's JSON reports say, for scripts/test.sh. Of a file that a later report has too, the later one counts.
 *
 *   failed REPORT      prints the files that failed, a line each
 *   count REPORT...    prints "PASSED FAILED", and names on standard error what passed only the second time
 *
 * A file that could not even be loaded has no tests and counts as one failure; so does a report that is missing or cut
 * short.
 */
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

/** What is read here of the form that vitest shares with Jest. */
interface TestFile {
  name: string;
  status: string;
  assertionResults: { status: string; fullName: string }[];
}

const filesIn = (report: string) =>
  (JSON.parse(readFileSync(report, 'utf8')) as { testResults: TestFile[] }).testResults;
const pathOf = ({ name }: TestFile) => relative(process.cwd(), name);
const testsThat = (status: string, { assertionResults }: TestFile) =>
  assertionResults.filter((test) => test.status === status);
const failuresOf = (file: TestFile) =>
  Math.max(testsThat('failed', file).length, file.status === 'failed' ? 1 : 0);

function nameWhatPassedLater(before: TestFile, file: TestFile): void {
  const failedAgain = new Set(testsThat('failed', file).map(({ fullName }) => fullName));
  const names = testsThat('failed', before).map(({ fullName }) => fullName);
  for (const name of names.length > 0 ? names : ['its loading'])
    if (failuresOf(before) > 0 && !failedAgain.has(name))
      console.error(`test: passed only the second time: ${pathOf(file)}: ${name}`);
}

const [command, ...reports] = process.argv.slice(2);
try {
  const latest = new Map<string, TestFile>();
  for (const file of reports.flatMap(filesIn)) {
    const before = latest.get(file.name);
    if (before !== undefined) nameWhatPassedLater(before, file);
    latest.set(file.name, file);
  }
  const files = [...latest.values()];
  if (command === 'failed') {
    for (const file of files) if (failuresOf(file) > 0) console.log(pathOf(file));
  } else {
    const sum = (amount: (file: TestFile) => number) =>
      files.reduce((total, file) => total + amount(file), 0);
    console.log(
      sum((file) => testsThat('passed', file).length),
      sum(failuresOf),
    );
  }
} catch (error) {
  console.error(`test: vitest left no readable report: ${(error as Error).message}`);
  if (command === 'count') console.log(0, 1);
}
