/**
 * What has programs do without whatever a CPU has beyond x86-64-v2, which those of the last fifteen years have: so that a
 * capsule can go to a machine with another CPU. They ask the CPU as they start, many of them through a library that can be
 * told by a variable what to leave out. Who asks by itself cannot: docs/decisions/0029-cpu-baseline.md.
 */
import { arch } from 'node:os';
import { TorporError } from '../../api/errors.ts';

/** Flags of /proc/cpuinfo that x86-64-v2 has (System V ABI, AMD64 supplement, table 3.1). */
export const baselineFeatures: ReadonlySet<string> = new Set([
  ...['cmov', 'cx8', 'fpu', 'fxsr', 'lm', 'mmx', 'sse', 'sse2', 'syscall', 'tsc', 'clflush'],
  ...['cx16', 'lahf_lm', 'popcnt', 'pni', 'sse4_1', 'sse4_2', 'ssse3'],
]);

/** glibc.cpu.hwcaps (the GNU C library's manual, Hardware Capability Tunables); before 2.33 many names had an ending. */
const leftOutByLibc = [
  // Without these two it saves registers, where it binds functions late, in a form that every CPU has.
  ...['XSAVE', 'XSAVEC'],
  ...['AVX', 'AVX2', 'FMA', 'FMA4', 'XOP', 'F16C', 'BMI1', 'BMI2', 'LZCNT', 'MOVBE', 'RTM'],
  ...['AVX512F', 'AVX512VL', 'AVX512BW', 'AVX512CD', 'AVX512DQ', 'AVX512ER', 'AVX512PF'],
].flatMap((name) => [`-${name}`, `-${name}_Usable`]);

const glibcTunables = `glibc.cpu.hwcaps=${leftOutByLibc.join(',')}`;

const others: Readonly<Record<string, string>> = {
  // OPENSSL_ia32cap(3): RDRAND, XSAVE, AVX and FMA; then all of the extended features.
  OPENSSL_ia32cap: '~0x5c00100000000000:0x0',
  // GnuTLS's manual, "Environment variables": SSSE3 and SSE2, nothing newer. Nettle, which it uses, likewise.
  GNUTLS_CPUID_OVERRIDE: '0x4',
  NETTLE_FAT_OVERRIDE: 'vendor:other',
  // libjpeg-turbo.
  JSIMD_FORCESSE2: '1',
  // Mesa's software rendering, in which a capsule's OpenGL is done.
  GALLIUM_OVERRIDE_CPU_CAPS: 'sse4.1',
  LP_NATIVE_VECTOR_WIDTH: '128',
  // NumPy, and OpenBLAS below it.
  NPY_DISABLE_CPU_FEATURES: 'AVX F16C FMA3 AVX2 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL',
  OPENBLAS_CORETYPE: 'Nehalem',
};

/** @param own what the application would get otherwise. @throws TorporError `usage` on machines of another architecture */
export function baselineEnvironment(own: Readonly<Record<string, string>>): Record<string, string> {
  if (arch() !== 'x64')
    throw new TorporError(
      'usage',
      `--cpu-baseline is for x86-64 only, and this machine is ${arch()}.`,
      'Leave it out.',
    );
  const { GLIBC_TUNABLES: already } = own;
  return {
    ...others,
    ...own,
    GLIBC_TUNABLES: already === undefined ? glibcTunables : `${already}:${glibcTunables}`,
  };
}
