/**
 * Everything that a window and the app say to each other. Both ends take their types from here; the app checks what
 * comes in against it, whichever way it came.
 */
import { z } from 'zod';
import { intervalSchema, saveEvents, sessionPolicyChangeSchema } from '../../api/types.ts';
import { memoryNapSchema, memoryViewSchema } from './memory-view.ts';
import { memoryPolicySchema, policyActions, policyViewSchema } from './policy-view.ts';
import {
  applicationSchema,
  appStateSchema,
  bundleEndSchema,
  bundleOnDriveSchema,
  consentViewSchema,
  driveSchema,
  findingViewSchema,
  noticeSchema,
  placeSchema,
  pluginReportViewSchema,
  programSchema,
  sessionRestoredSchema,
  sessionSavedSchema,
  settingsSchema,
  snapshotViewSchema,
  windowSchema,
} from './view.ts';

const call = <A extends z.ZodTuple, R extends z.ZodType>(args: A, result: R) => ({ args, result });
const id = z.string().min(1).max(200);

/** Of a session, as the user calls it; whether it can be one is the engine's to say. */
const sessionName = z.string().min(1).max(1000);
const path = z.string().min(1).max(4000);
const passphrase = z.string().min(1).max(1000);

/** What the user agrees to, by the ids of {@link consentViewSchema}. */
const agreed = z.array(id).max(20);

/** From a window to the app: `[arguments, result]`. */
export const calls = {
  'state.get': call(z.tuple([]), appStateSchema),

  /** What runs in the user's terminals, newest first: by its pid it is inspected and suspended like a workload. */
  'programs.list': call(z.tuple([]), z.array(programSchema)),

  /** What a suspend would meet; touches nothing. */
  'workload.inspect': call(z.tuple([id]), z.array(findingViewSchema)),
  /** Does what a finding's remedy says, then inspects again. */
  'workload.remedy': call(
    z.tuple([id, z.object({ id: z.string(), pid: z.number().int().optional() })]),
    z.array(findingViewSchema),
  ),
  /** Ends when it is suspended; `keepRunning` only takes a snapshot. */
  'workload.suspend': call(
    z.tuple([id, z.object({ keepRunning: z.boolean() })]),
    z.object({ freedBytes: z.number() }),
  ),
  'workload.resume': call(z.tuple([id]), z.void()),
  /** Holds it still where it is. @returns what of its memory is free by that, in bytes */
  'workload.nap': call(z.tuple([id]), z.object({ freedBytes: z.number() })),
  /** What applications have of memory, those that Torpor did not start among them. */
  'memory.view': call(z.tuple([]), memoryViewSchema),
  /** Of a workload or a process. @returns what stands in the way, where something does and `anyway` does not pass over it */
  'memory.nap': call(z.tuple([id, z.object({ anyway: z.boolean() })]), memoryNapSchema),
  'memory.wake': call(z.tuple([id]), z.void()),
  'workload.wake': call(z.tuple([id]), z.void()),
  /** Gives up the operation under way; the application is as it was before. */
  'workload.cancel': call(z.tuple([id]), z.void()),
  'workload.end': call(z.tuple([id]), z.void()),
  /** Forgets one that has ended or is suspended, with all its snapshots. */
  'workload.forget': call(z.tuple([id]), z.void()),

  /** Has snapshots taken of what runs on, the first one now, and one every so many seconds; none any more where it is null. */
  'workload.setInterval': call(z.tuple([id, intervalSchema.shape.everySeconds.nullable()]), z.void()),

  /** Newest first. */
  'snapshots.list': call(z.tuple([id]), z.array(snapshotViewSchema)),
  /** Takes the application back to that state: what runs of it is suspended first, so that there is a way forward. */
  'snapshot.goTo': call(z.tuple([id]), z.void()),
  /** Starts a second instance from it. @returns the new workload's id */
  'snapshot.resumeCopy': call(z.tuple([id]), z.string()),
  /** A kept snapshot is never removed to make room. */
  'snapshot.keep': call(z.tuple([id, z.boolean()]), z.void()),
  'snapshot.remove': call(z.tuple([id]), z.void()),

  /** Recently used first, then by name. */
  'applications.list': call(z.tuple([]), z.array(applicationSchema)),
  /** Those that open such a file, the default first. */
  'applications.forFile': call(z.tuple([z.string().min(1)]), z.array(applicationSchema)),
  /** Starts one in a capsule. @returns the workload's id */
  'applications.launch': call(
    z.tuple([
      id,
      z.object({
        action: z.string().optional(),
        files: z.array(z.string()).optional(),
        /** Device pixels a CSS pixel of the window that asks, so that it is drawn sharp. */
        scale: z.number().min(0.5).max(8).optional(),
        agree: agreed.optional(),
      }),
    ]),
    z.string(),
  ),
  /** Runs a command line as a shell would, in a terminal window where asked. @returns the workload's id */
  'command.run': call(
    z.tuple([
      z.string().min(1).max(10_000),
      z.object({
        terminal: z.boolean(),
        scale: z.number().min(0.5).max(8).optional(),
        agree: agreed.optional(),
      }),
    ]),
    z.string(),
  ),

  /** Opens a window there, or brings the one that is there to the front. */
  'window.open': call(z.tuple([placeSchema]), z.void()),
  /** Closes the window that asks. */
  'window.close': call(z.tuple([]), z.void()),
  /** The windows of the application in a capsule. */
  'screen.windows': call(z.tuple([id]), z.array(windowSchema)),
  'screen.activate': call(z.tuple([id, z.number().int()]), z.void()),
  /** Whether the user is in the window that asks, which shows such a screen. */
  'screen.focused': call(z.tuple([id, z.boolean()]), z.void()),

  'session.suspendAll': call(z.tuple([]), z.object({ suspended: z.number(), failed: z.array(noticeSchema) })),
  /** Resumes what was suspended together last. */
  'session.resumeLast': call(z.tuple([]), z.object({ resumed: z.number(), failed: z.array(noticeSchema) })),
  /**
   * Suspends these at one instant and keeps them under a name: all of them, or with `partial` those that can be. `replace`
   * takes the name from a session that has it.
   */
  'session.save': call(
    z.tuple([
      z.object({
        name: sessionName,
        workloads: z.array(id).min(1).max(1000),
        partial: z.boolean(),
        replace: z.boolean(),
      }),
    ]),
    sessionSavedSchema,
  ),
  /** Resumes what a session has, side by side; one that cannot be resumed stays suspended. */
  'session.restore': call(z.tuple([sessionName]), sessionRestoredSchema),
  /** Forgets its name; what it has stays as it is. */
  'session.forget': call(z.tuple([sessionName]), z.void()),
  'policy.set': call(z.tuple([sessionPolicyChangeSchema.omit({ machine: true, saveAt: true })]), z.void()),
  'policy.saveAt': call(z.tuple([z.enum(saveEvents), z.boolean()]), z.void()),
  'arrival.dismiss': call(z.tuple([]), z.void()),
  /** What the memory policy sees and has done. */
  'memoryPolicy.view': call(z.tuple([]), policyViewSchema),
  /** What is given changes, and nothing else. */
  'memoryPolicy.set': call(z.tuple([memoryPolicySchema.omit({ rules: true }).partial()]), z.void()),
  /** What is to be done with an application, by the name that rules have for it. */
  'memoryPolicy.rule': call(z.tuple([z.string().min(1).max(300), z.enum(policyActions)]), z.void()),
  'automation.pause': call(z.tuple([z.boolean()]), z.void()),
  /** The plugins for the user's workloads, each asked now. */
  'plugins.list': call(z.tuple([]), pluginReportViewSchema),
  /** Mounted drives that can be taken away, with the bundles on them. */
  'drives.list': call(z.tuple([]), z.array(driveSchema)),
  /** Whether there is a bundle at a path. */
  'bundle.look': call(z.tuple([path]), z.object({ bundle: bundleOnDriveSchema.optional() })),
  /** Ends when all of it is synced and read back, or has failed: the answer is part of the state, too. */
  'bundle.export': call(
    z.tuple([
      z.object({
        workloads: z.array(id).min(1).max(100),
        path,
        passphrase,
        leaveRunning: z.boolean(),
        withEngine: z.boolean(),
      }),
    ]),
    bundleEndSchema,
  ),
  'bundle.import': call(z.tuple([z.object({ path, passphrase, resume: z.boolean() })]), bundleEndSchema),
  /** Gives up what is under way; the bundle is as it was. */
  'bundle.cancel': call(z.tuple([]), z.void()),
  /** How the last one ended has been seen. */
  'bundle.dismiss': call(z.tuple([]), z.void()),
  'settings.set': call(z.tuple([settingsSchema.partial()]), settingsSchema),
  /** Opens a web address in the user's browser: http, https and mailto only. */
  'external.open': call(z.tuple([z.string().max(2000)]), z.void()),
} as const;

/** From the app to every window. */
export const events = {
  state: appStateSchema,
  notice: noticeSchema,
  /** This window is to go to a place. */
  go: placeSchema,
} as const;

export type CallName = keyof typeof calls;
export type CallArguments<N extends CallName> = z.output<(typeof calls)[N]['args']>;
export type CallResult<N extends CallName> = z.output<(typeof calls)[N]['result']>;
export type EventName = keyof typeof events;
export type EventValue<N extends EventName> = z.output<(typeof events)[N]>;

/** An error as it reaches a window: the same sentence as everywhere. */
export const callErrorSchema = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string(),
  /** Where all it takes is that the user agrees: to what, in the language that is set. */
  consents: z.array(consentViewSchema).optional(),
});
export type CallError = z.infer<typeof callErrorSchema>;

/** Messages of a channel that carries both ways, such as a WebSocket: one JSON document each. */
export type ToApp = { id: number; call: CallName; args: unknown[] };
export type ToWindow =
  | { id: number; result: unknown }
  | { id: number; error: CallError }
  | { event: EventName; value: unknown };

/** What a shell puts into a window for the renderer, as `window.torpor`; without it the renderer uses a WebSocket. */
export interface WindowBridge {
  call(name: CallName, args: unknown[]): Promise<{ result: unknown } | { error: CallError }>;
  /** @returns a function that ends it */
  listen(listener: (event: EventName, value: unknown) => void): () => void;
  /** A MessagePort to the screen of a capsule, binary messages both ways; null ends the connection. */
  openScreen(workload: string): Promise<unknown>;
}
