/** Timers that run: they stand still with the application. */
import type { Finding } from '../../../api/types.ts';
import { named, type Rule } from '../rule.ts';

export const timers: Rule = (facts) => [...alarmClocks(facts), ...running(facts)];

const alarmClocks: Rule = (facts) =>
  facts.processes
    .filter((process) => process.alarmClocks)
    .map(
      (process): Finding => ({
        tie: 'timer',
        verdict: 'blocking',
        by: '',
        pid: process.pid,
        what: `${named(process)} has a timer that wakes the machine from sleep, which cannot be saved.`,
        hint: 'Take the alarm away in it, or end it, and try again.',
      }),
    );

const running: Rule = (facts) =>
  facts.processes
    .filter(
      (process) =>
        process.timers > 0 ||
        process.descriptors.some((each) => each.kind === 'kernel-object' && each.type === 'timerfd'),
    )
    .map(
      (process): Finding => ({
        tie: 'timer',
        verdict: 'handled',
        by: 'criu',
        pid: process.pid,
        what: `${named(process)} has timers; they stand still with it and go on after the resume.`,
        hint: 'One of a descriptor (timerfd) that is set to a time of the day goes off at that, or at the resume if it has passed; `torpor resume --clock advance` lets all go off that were due meanwhile.',
      }),
    );
