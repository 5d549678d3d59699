/** Tells the author of a plugin how it went: a line for each rule, and below a rule that is broken what was seen. */
import type { SerializedError } from 'vitest';
import type { Reporter, TestCase, TestModule } from 'vitest/node';

const marks = { passed: 'ok  ', failed: 'NO  ', skipped: '--  ', pending: '??  ' } as const;

export default class RuleReporter implements Reporter {
  onTestCaseResult(test: TestCase): void {
    const { state, errors } = test.result();
    const note = test.result().state === 'skipped' ? test.result() : undefined;
    const why = note !== undefined && 'note' in note && note.note ? `: ${note.note}` : '';
    process.stdout.write(`${marks[state]}${test.name}${why}\n`);
    for (const { message } of errors ?? []) process.stdout.write(indented(message));
    for (const { message } of test.annotations()) process.stdout.write(indented(message));
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    for (const { message } of [...modules.flatMap((module) => module.errors()), ...unhandled])
      process.stdout.write(`${marks.failed}${message}\n`);
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const count = (state: string) => tests.filter((test) => test.result().state === state).length;
    process.stdout.write(
      `\n${count('passed')} rules kept, ${count('failed')} broken, ${count('skipped')} do not apply\n`,
    );
  }
}

const indented = (text: string) =>
  text
    .split('\n')
    .map((line) => `      ${line}\n`)
    .join('');
