import { describe, expect, it } from 'vitest';
import { baselineEnvironment } from '../../engine/capsule/cpu-baseline.ts';
import { isUsable, missingFeatures, neededOf } from '../../engine/transaction/cpu.ts';
import type { WorkloadKind } from '../../proto/manifest.ts';

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

  it('lets go what was started to do without, and nothing else', () => {
    const capsule = (more: object) => ({ kind: 'capsule', capsule: more }) as unknown as WorkloadKind;
    const missing = ['avx2', 'avx512f', 'sse4_2'];
    expect(neededOf(capsule({}), missing)).toEqual(missing);
    expect(neededOf(capsule({ cpuBaseline: true }), missing)).toEqual(['sse4_2']);
    expect(neededOf({ kind: 'job', job: {} } as unknown as WorkloadKind, missing)).toEqual(missing);
  });

  it('is told to libraries, beside what was told to them already', () => {
    const environment = baselineEnvironment({
      HOME: '/home/eve',
      GLIBC_TUNABLES: 'glibc.malloc.tcache_count=0',
      OPENSSL_ia32cap: '0x1',
    });
    expect(environment).toMatchObject({ HOME: '/home/eve', OPENSSL_ia32cap: '0x1' });
    expect(environment.GLIBC_TUNABLES).toMatch(
      /^glibc\.malloc\.tcache_count=0:glibc\.cpu\.hwcaps=-XSAVE,.*,-AVX512F,/,
    );
  });

  it('does not mind more features than there were', () => {
    expect(missingFeatures(host(['sse2']), ['sse2', 'avx'])).toEqual([]);
  });
});
