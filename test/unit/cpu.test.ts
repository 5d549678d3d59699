import { describe, expect, it } from 'vitest';
import { isUsable, missingFeatures } from '../../engine/transaction/cpu.ts';

const host = (cpuFeatures: string[], architecture = 'x64') => ({ cpuFeatures, architecture });

describe('features of another CPU', () => {
  it('names those that a program may use', () => {
    expect(missingFeatures(host(['avx2', 'avx512f', 'sse4_2']), ['sse4_2'])).toEqual(['avx2', 'avx512f']);
  });

  it('does not mind what is the business of the kernel', () => {
    const ofKernel = [
      'hypervisor',
      'ibrs',
      'md_clear',
      'smep',
      'vmx',
      'constant_tsc',
      'erms',
      'arch_capabilities',
    ];
    expect(missingFeatures(host(ofKernel), [])).toEqual([]);
  });

  it('takes all for usable where it knows the architecture’s names for programs’ own', () => {
    expect(isUsable('asimddp', 'arm64')).toBe(true);
  });

  it('does not mind more features than there were', () => {
    expect(missingFeatures(host(['sse2']), ['sse2', 'avx'])).toEqual([]);
  });
});
