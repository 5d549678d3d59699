/**
 * What a suspend and a resume need to know of a workload and that differs between the kinds: how CRIU gets to it, and
 * what stands around it. A capsule brings its surroundings along; a job comes back into a room (native/room.c).
 */
import type { Picture } from '../../api/rfb/picture.ts';
import type { ConnectionChoice, Finding, SocketChoice } from '../../api/types.ts';
import type { CriuClient } from '../criu/client.ts';
import type { DumpOptions, RestoreOptions } from '../criu/options.ts';
import type { CapsuleView } from '../files/paths.ts';
import type { TreeInspection } from '../inspect/inspect.ts';
import type { ProcessIdentity } from '../process.ts';
import type { Room } from '../workload/record.ts';

/** What bears on the findings beside the workload itself. */
export interface InspectionOptions {
  /** The user's choice, if any. */
  externalSockets: SocketChoice | undefined;
  connections: ConnectionChoice;
  /** Names of workloads that are suspended at the same instant, by the pids of their processes. */
  companions: ReadonlyMap<number, string> | undefined;
}

/** A running workload that is to be suspended. */
export interface SuspendPlace {
  criu: CriuClient;
  /** Its first process, as that CRIU counts. */
  pid: number;
  /** With whose end it has ended. */
  init: ProcessIdentity;
  options: Pick<DumpOptions, 'external' | 'shellJob' | 'timeout'>;
  view: CapsuleView;
  /** All its processes, as the host counts. */
  pids: () => Promise<number[]>;
  inspect: (how: InspectionOptions) => Promise<TreeInspection>;
  /** How it looks; undefined where nothing of it is to be seen. */
  picture: () => Promise<Picture | undefined>;
  /** The last moment before the freeze: lets go of what CRIU cannot take. */
  detach: (inspection: TreeInspection) => Promise<void>;
  /** While it stands still: puts into the snapshot's folder what belongs to it and is in none of its processes. */
  keep: (folder: string) => Promise<void>;
  /** It goes on after all, so what {@link detach} did is undone. */
  reattach: () => Promise<void>;
  /** The snapshot is committed, and it is about to be ended: those who look at it are told. */
  release: () => Promise<void>;
}

/** Where a workload comes back. */
export interface ResumePlace {
  criu: CriuClient;
  options: Pick<RestoreOptions, 'root' | 'external' | 'shellJob' | 'terminalKeys'>;
  /** CRIU reads a folder of links in place of the images' own. */
  needsView: boolean;
  /** Images that CRIU shall read instead of those in the snapshot, by name. */
  rewritten: ReadonlyMap<string, Buffer>;
  runFolder: string;
  view: CapsuleView;
  /** Before anything runs: the process that stands for the workload, given the restored root. */
  initOf: (root: number | undefined) => Promise<{ init: ProcessIdentity; room?: Room } | undefined>;
  /** What is to be said of what has changed since, apart from files and sockets. */
  findings: readonly Finding[];
  /** The resume has come to its end, one way or the other. */
  done: () => void;
}
