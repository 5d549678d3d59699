/**
 * Paths that processes watch for changes, in CRIU's `files.img` (images/fsnotify.proto and fh.proto of CRIU 4.2): a restore
 * on another machine finds them by these, so they must be there.
 */
import { imageEntries } from '../../proto/images.ts';
import { decode, message, optional, repeated } from '../../proto/wire.ts';

const handle = message('fh_entry', { path: optional(4, 'string') });
const watchingEntry = message('file_entry', {
  inotify: optional(
    13,
    message('inotify_file_entry', {
      watches: repeated(5, message('inotify_wd_entry', { handle: optional(7, handle) })),
    }),
  ),
  fanotify: optional(
    14,
    message('fanotify_file_entry', {
      marks: repeated(
        6,
        message('fanotify_mark_entry', {
          inode: optional(7, message('fanotify_inode_mark_entry', { handle: optional(2, handle) })),
        }),
      ),
    }),
  ),
});

/** @throws WireError where the image is not one. */
export function watchedPaths(filesImage: Buffer): string[] {
  const paths = new Set<string>();
  for (const entry of imageEntries('files', filesImage)) {
    const { inotify, fanotify } = decode(watchingEntry, entry);
    for (const { handle: watched } of inotify?.watches ?? []) if (watched?.path) paths.add(watched.path);
    for (const { inode } of fanotify?.marks ?? []) if (inode?.handle?.path) paths.add(inode.handle.path);
  }
  return [...paths].map((path) => (path.startsWith('/') ? path : `/${path}`));
}
