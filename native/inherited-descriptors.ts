/** What whoever started this process had open is not for its children: close_range(2), through koffi. */
import koffi from 'koffi';

const closeOnExec = 4;

/** Marks all descriptors behind the standard ones to be closed in what this process starts; it keeps them itself. */
export function keepDescriptorsFromChildren(): void {
  const closeRange = koffi.load('libc.so.6').func('int close_range(unsigned int, unsigned int, int)');
  closeRange(3, 0xffffffff, closeOnExec);
}
