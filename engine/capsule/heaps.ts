/**
 * What has well-known allocators give memory that a program has freed back to the kernel at once, instead of keeping it
 * for the next time. Each reads variables of its own, when its program starts, and no others.
 */
export const trimmingEnvironment: Readonly<Record<string, string>> = {
  // The GNU C library, mallopt(3): where these are given, they do not rise with what is freed.
  MALLOC_TRIM_THRESHOLD_: String(128 * 1024),
  MALLOC_MMAP_THRESHOLD_: String(128 * 1024),
  // jemalloc(3), and as programs in Rust have it.
  MALLOC_CONF: 'dirty_decay_ms:0,muzzy_decay_ms:0',
  _RJEM_MALLOC_CONF: 'dirty_decay_ms:0,muzzy_decay_ms:0',
  // gperftools.
  TCMALLOC_AGGRESSIVE_DECOMMIT: 'true',
  // mimalloc; before version 2.1 by the second name.
  MIMALLOC_PURGE_DELAY: '0',
  MIMALLOC_DECOMMIT_DELAY: '0',
};
