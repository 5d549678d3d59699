/** Which features of a processor a program may have come to rely on: it asks once, as it starts, and goes by the answer. */
import { readFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { TorporError } from '../../api/errors.ts';
import type { Finding } from '../../api/types.ts';
import type { Manifest, WorkloadKind } from '../../proto/manifest.ts';
import { baselineFeatures } from '../capsule/cpu-baseline.ts';

/** The CPU's features, as the kernel names them; sorted. */
export async function cpuFeatures(): Promise<string[]> {
  const text = await readFile('/proc/cpuinfo', 'utf8');
  const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(text)?.[1] ?? '';
  return flags.trim().split(/\s+/).sort();
}

/**
 * Of x86's flags (kernel: arch/x86/include/asm/cpufeatures.h) those of instructions and state that a program may use by
 * itself. All others are the kernel's or the hypervisor's business, tell of flaws, or only make something faster.
 */
const usableOnX86 = [
  /^(?:fpu|cx8|cx16|cmov|mmx|mmxext|fxsr|3dnow|3dnowext|lahf_lm|syscall|lm)$/,
  /^(?:pni|ssse3|sse\w*)$/,
  /^(?:avx\w*|fma|fma4|xop|f16c|tbm|amx_\w+)$/,
  /^(?:popcnt|abm|bmi1|bmi2|movbe|adx|lwp)$/,
  /^(?:aes|vaes|pclmulqdq|vpclmulqdq|gfni|sha_ni|sha512|sm3|sm4|rdrand|rdseed)$/,
  /^(?:xsave|xsaveopt|xsavec|xgetbv1|fsgsbase|rdpid|rdtscp|rdpru|tsc)$/,
  /^(?:clflush|clflushopt|clwb|clzero|movdiri|movdir64b|enqcmd|serialize|waitpkg|mwaitx|cmpccxadd)$/,
  /^(?:rtm|hle|tsxldtrk|pku|ospke|user_shstk)$/,
];

/** Whether a program may use it. Pure. Of other architectures all that is named is for programs. */
export function isUsable(feature: string, architecture: string): boolean {
  const isX86 = architecture === 'x64' || architecture === 'ia32';
  return !isX86 || usableOnX86.some((each) => each.test(feature));
}

/** What a program from there may use and this machine lacks. Pure. */
export const missingFeatures = (
  { architecture, cpuFeatures: there }: Pick<Manifest['host'], 'architecture' | 'cpuFeatures'>,
  here: readonly string[],
): string[] => there.filter((feature) => !here.includes(feature) && isUsable(feature, architecture));

/** Of what is missing, that which it was not started to do without. Pure. */
export const neededOf = (manifest: WorkloadKind, missing: readonly string[]): string[] =>
  doesWithout(manifest) ? missing.filter((feature) => baselineFeatures.has(feature)) : [...missing];

const doesWithout = (manifest: WorkloadKind) =>
  manifest.kind === 'capsule' && manifest.capsule.cpuBaseline === true;

/**
 * @returns findings about what it may miss all the same.
 * @throws TorporError `blocked` where it could not run on this machine's processor, naming what that lacks.
 */
export async function refuseOtherCpu(
  manifest: Pick<Manifest, 'name' | 'host'> & WorkloadKind,
): Promise<Finding[]> {
  const { name, host } = manifest;
  if (host.architecture !== arch())
    throw new TorporError(
      'blocked',
      `${name} ran on a machine of another architecture (${host.architecture}; this one is ${arch()}).`,
      `Resume it on a machine with ${host.architecture}.`,
    );
  const lacking = missingFeatures(host, await cpuFeatures());
  const missing = neededOf(manifest, lacking);
  if (missing.length === 0) return lacking.length === 0 ? [] : [mayMiss(name, lacking)];
  throw new TorporError(
    'blocked',
    `${name} was suspended on a CPU with features that it may use and that this one lacks: ${missing.join(', ')}.`,
    doesWithout(manifest)
      ? 'Resume it on the machine it comes from, or on one whose CPU has them.'
      : 'Resume it on the machine it comes from, or on one whose CPU has them. What is to go to such machines can be started with `torpor run --cpu-baseline`.',
    { missing },
  );
}

const mayMiss = (name: string, lacking: readonly string[]): Finding => ({
  tie: 'cpu',
  verdict: 'degraded',
  by: 'engine',
  what: `${name} was started to do without what this CPU lacks (${lacking.join(', ')}), as far as libraries can be told to. A program that finds it out by itself may end with “illegal instruction”.`,
  hint: 'Save what you do here often. The snapshot that it is resumed from stays, also where it comes from.',
});
