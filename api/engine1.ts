// Made by `npm run generate` from io.github.torpor.Engine1.xml; change that file, not this one.
import {
  type Arrival,
  arrivalSchema,
  type CapsuleWindow,
  type CollectResult,
  capsuleWindowSchema,
  collectResultSchema,
  type DoctorCheck,
  doctorCheckSchema,
  type EncryptionChange,
  type EncryptionStatus,
  type ExecSpec,
  type ExportOptions,
  type ExportResult,
  encryptionChangeSchema,
  encryptionStatusSchema,
  execSpecSchema,
  exportOptionsSchema,
  exportResultSchema,
  type ImportOptions,
  type ImportResult,
  type Inspection,
  type Interval,
  importOptionsSchema,
  importResultSchema,
  inspectionSchema,
  intervalSchema,
  type KexecOptions,
  type KexecPlan,
  type KexecResult,
  kexecOptionsSchema,
  kexecPlanSchema,
  kexecResultSchema,
  type MemoryReport,
  memoryReportSchema,
  type NapOptions,
  type NapPlan,
  type NapResult,
  napOptionsSchema,
  napPlanSchema,
  napResultSchema,
  type PluginReport,
  type Pressure,
  type PressureWatch,
  type ProfileQuery,
  type ProfileReport,
  type Progress,
  pluginReportSchema,
  pressureSchema,
  pressureWatchSchema,
  profileQuerySchema,
  profileReportSchema,
  progressSchema,
  type ResumeChoices,
  type ResumeOptions,
  type ResumeResult,
  type RunSpec,
  resumeChoicesSchema,
  resumeOptionsSchema,
  resumeResultSchema,
  runSpecSchema,
  type Session,
  type SessionPolicyChange,
  type SessionPolicyState,
  type SessionRestoreOptions,
  type SessionRestoreResult,
  type SessionSaveOptions,
  type SessionSaveResult,
  type Settings,
  type Snapshot,
  type SuspendOptions,
  type SuspendResult,
  sessionPolicyChangeSchema,
  sessionPolicyStateSchema,
  sessionRestoreOptionsSchema,
  sessionRestoreResultSchema,
  sessionSaveOptionsSchema,
  sessionSaveResultSchema,
  sessionSchema,
  settingsSchema,
  snapshotSchema,
  suspendOptionsSchema,
  suspendResultSchema,
  type VerifyOptions,
  type VerifyResult,
  verifyOptionsSchema,
  verifyResultSchema,
  type WakeResult,
  type Workload,
  wakeResultSchema,
  workloadSchema,
} from './types.ts';
import type { MethodWire, SignalWire } from './wire.ts';

export const interfaceName = 'io.github.torpor.Engine1';
export const objectPath = '/io/github/torpor/Engine1';

export interface EngineMethods {
  profiles(query: ProfileQuery): Promise<ProfileReport>;
  takeBack(consent: string): Promise<void>;
  plugins(): Promise<PluginReport>;
  registerPlugin(name: string): Promise<void>;
  run(spec: RunSpec): Promise<Workload>;
  list(): Promise<Workload[]>;
  get(workload: string): Promise<Workload>;
  inspect(target: string): Promise<Inspection>;
  suspend(target: string, options: SuspendOptions): Promise<SuspendResult>;
  suspendSet(targets: string[], options: SuspendOptions): Promise<SuspendResult[]>;
  planNap(target: string): Promise<NapPlan>;
  nap(target: string, options: NapOptions): Promise<NapResult>;
  memory(): Promise<MemoryReport>;
  neverNap(): Promise<string[]>;
  setNeverNap(name: string, never: boolean): Promise<void>;
  watchPressure(): Promise<PressureWatch>;
  wake(target: string): Promise<WakeResult>;
  resume(target: string, options: ResumeOptions): Promise<ResumeResult>;
  resumeSet(targets: string[], choices: ResumeChoices): Promise<ResumeResult[]>;
  saveSession(name: string, targets: string[], options: SessionSaveOptions): Promise<SessionSaveResult>;
  restoreSession(name: string, options: SessionRestoreOptions): Promise<SessionRestoreResult>;
  sessions(): Promise<Session[]>;
  forgetSession(name: string): Promise<void>;
  sessionPolicy(): Promise<SessionPolicyState>;
  setSessionPolicy(change: SessionPolicyChange): Promise<SessionPolicyState>;
  planKexec(options: KexecOptions): Promise<KexecPlan>;
  kexec(options: KexecOptions): Promise<KexecResult>;
  arrival(): Promise<Arrival>;
  cancel(workload: string): Promise<void>;
  end(workload: string): Promise<Workload>;
  forget(workload: string): Promise<void>;
  exec(workload: string, spec: ExecSpec): Promise<string>;
  windows(workload: string): Promise<CapsuleWindow[]>;
  windowIcon(workload: string, window: number): Promise<Uint8Array>;
  activateWindow(workload: string, window: number): Promise<void>;
  closeWindows(workload: string): Promise<void>;
  snapshots(workload: string): Promise<Snapshot[]>;
  setInterval(target: string, interval: Interval): Promise<Workload>;
  endInterval(target: string): Promise<Workload>;
  remove(snapshot: string): Promise<void>;
  keep(snapshot: string, keep: boolean): Promise<void>;
  picture(snapshot: string, size: string): Promise<string>;
  verify(options: VerifyOptions): Promise<VerifyResult[]>;
  export(targets: string[], options: ExportOptions): Promise<ExportResult>;
  import(options: ImportOptions): Promise<ImportResult>;
  collect(): Promise<CollectResult>;
  settings(): Promise<Settings>;
  changeSettings(settings: Settings): Promise<void>;
  encryption(): Promise<EncryptionStatus>;
  changeEncryption(change: EncryptionChange): Promise<EncryptionStatus>;
  doctor(): Promise<DoctorCheck[]>;
  subscribe(): Promise<void>;
}

export interface EngineSignals {
  progress: Progress;
  workloadChanged: Workload;
  workloadForgotten: string;
  pressureRose: Pressure;
  snapshotsChanged: string;
}

export const methods = {
  profiles: {
    member: 'Profiles',
    inputs: [{ signature: 'a{sv}', schema: profileQuerySchema }],
    output: { signature: 'a{sv}', schema: profileReportSchema },
  },
  takeBack: { member: 'TakeBack', inputs: [{ signature: 's' }] },
  plugins: { member: 'Plugins', inputs: [], output: { signature: 'a{sv}', schema: pluginReportSchema } },
  registerPlugin: { member: 'RegisterPlugin', inputs: [{ signature: 's' }] },
  run: {
    member: 'Run',
    inputs: [{ signature: 'a{sv}', schema: runSpecSchema }],
    output: { signature: 'a{sv}', schema: workloadSchema },
  },
  list: { member: 'List', inputs: [], output: { signature: 'aa{sv}', schema: workloadSchema } },
  get: {
    member: 'Get',
    inputs: [{ signature: 's' }],
    output: { signature: 'a{sv}', schema: workloadSchema },
  },
  inspect: {
    member: 'Inspect',
    inputs: [{ signature: 's' }],
    output: { signature: 'a{sv}', schema: inspectionSchema },
  },
  suspend: {
    member: 'Suspend',
    inputs: [{ signature: 's' }, { signature: 'a{sv}', schema: suspendOptionsSchema }],
    output: { signature: 'a{sv}', schema: suspendResultSchema },
  },
  suspendSet: {
    member: 'SuspendSet',
    inputs: [{ signature: 'as' }, { signature: 'a{sv}', schema: suspendOptionsSchema }],
    output: { signature: 'aa{sv}', schema: suspendResultSchema },
  },
  planNap: {
    member: 'PlanNap',
    inputs: [{ signature: 's' }],
    output: { signature: 'a{sv}', schema: napPlanSchema },
  },
  nap: {
    member: 'Nap',
    inputs: [{ signature: 's' }, { signature: 'a{sv}', schema: napOptionsSchema }],
    output: { signature: 'a{sv}', schema: napResultSchema },
  },
  memory: { member: 'Memory', inputs: [], output: { signature: 'a{sv}', schema: memoryReportSchema } },
  neverNap: { member: 'NeverNap', inputs: [], output: { signature: 'as' } },
  setNeverNap: { member: 'SetNeverNap', inputs: [{ signature: 's' }, { signature: 'b' }] },
  watchPressure: {
    member: 'WatchPressure',
    inputs: [],
    output: { signature: 'a{sv}', schema: pressureWatchSchema },
  },
  wake: {
    member: 'Wake',
    inputs: [{ signature: 's' }],
    output: { signature: 'a{sv}', schema: wakeResultSchema },
  },
  resume: {
    member: 'Resume',
    inputs: [{ signature: 's' }, { signature: 'a{sv}', schema: resumeOptionsSchema }],
    output: { signature: 'a{sv}', schema: resumeResultSchema },
  },
  resumeSet: {
    member: 'ResumeSet',
    inputs: [{ signature: 'as' }, { signature: 'a{sv}', schema: resumeChoicesSchema }],
    output: { signature: 'aa{sv}', schema: resumeResultSchema },
  },
  saveSession: {
    member: 'SaveSession',
    inputs: [
      { signature: 's' },
      { signature: 'as' },
      { signature: 'a{sv}', schema: sessionSaveOptionsSchema },
    ],
    output: { signature: 'a{sv}', schema: sessionSaveResultSchema },
  },
  restoreSession: {
    member: 'RestoreSession',
    inputs: [{ signature: 's' }, { signature: 'a{sv}', schema: sessionRestoreOptionsSchema }],
    output: { signature: 'a{sv}', schema: sessionRestoreResultSchema },
  },
  sessions: { member: 'Sessions', inputs: [], output: { signature: 'aa{sv}', schema: sessionSchema } },
  forgetSession: { member: 'ForgetSession', inputs: [{ signature: 's' }] },
  sessionPolicy: {
    member: 'SessionPolicy',
    inputs: [],
    output: { signature: 'a{sv}', schema: sessionPolicyStateSchema },
  },
  setSessionPolicy: {
    member: 'SetSessionPolicy',
    inputs: [{ signature: 'a{sv}', schema: sessionPolicyChangeSchema }],
    output: { signature: 'a{sv}', schema: sessionPolicyStateSchema },
  },
  planKexec: {
    member: 'PlanKexec',
    inputs: [{ signature: 'a{sv}', schema: kexecOptionsSchema }],
    output: { signature: 'a{sv}', schema: kexecPlanSchema },
  },
  kexec: {
    member: 'Kexec',
    inputs: [{ signature: 'a{sv}', schema: kexecOptionsSchema }],
    output: { signature: 'a{sv}', schema: kexecResultSchema },
  },
  arrival: { member: 'Arrival', inputs: [], output: { signature: 'a{sv}', schema: arrivalSchema } },
  cancel: { member: 'Cancel', inputs: [{ signature: 's' }] },
  end: {
    member: 'End',
    inputs: [{ signature: 's' }],
    output: { signature: 'a{sv}', schema: workloadSchema },
  },
  forget: { member: 'Forget', inputs: [{ signature: 's' }] },
  exec: {
    member: 'Exec',
    inputs: [{ signature: 's' }, { signature: 'a{sv}', schema: execSpecSchema }],
    output: { signature: 's' },
  },
  windows: {
    member: 'Windows',
    inputs: [{ signature: 's' }],
    output: { signature: 'aa{sv}', schema: capsuleWindowSchema },
  },
  windowIcon: {
    member: 'WindowIcon',
    inputs: [{ signature: 's' }, { signature: 'u' }],
    output: { signature: 'ay' },
  },
  activateWindow: { member: 'ActivateWindow', inputs: [{ signature: 's' }, { signature: 'u' }] },
  closeWindows: { member: 'CloseWindows', inputs: [{ signature: 's' }] },
  snapshots: {
    member: 'Snapshots',
    inputs: [{ signature: 's' }],
    output: { signature: 'aa{sv}', schema: snapshotSchema },
  },
  setInterval: {
    member: 'SetInterval',
    inputs: [{ signature: 's' }, { signature: 'a{sv}', schema: intervalSchema }],
    output: { signature: 'a{sv}', schema: workloadSchema },
  },
  endInterval: {
    member: 'EndInterval',
    inputs: [{ signature: 's' }],
    output: { signature: 'a{sv}', schema: workloadSchema },
  },
  remove: { member: 'Remove', inputs: [{ signature: 's' }] },
  keep: { member: 'Keep', inputs: [{ signature: 's' }, { signature: 'b' }] },
  picture: {
    member: 'Picture',
    inputs: [{ signature: 's' }, { signature: 's' }],
    output: { signature: 's' },
  },
  verify: {
    member: 'Verify',
    inputs: [{ signature: 'a{sv}', schema: verifyOptionsSchema }],
    output: { signature: 'aa{sv}', schema: verifyResultSchema },
  },
  export: {
    member: 'Export',
    inputs: [{ signature: 'as' }, { signature: 'a{sv}', schema: exportOptionsSchema }],
    output: { signature: 'a{sv}', schema: exportResultSchema },
  },
  import: {
    member: 'Import',
    inputs: [{ signature: 'a{sv}', schema: importOptionsSchema }],
    output: { signature: 'a{sv}', schema: importResultSchema },
  },
  collect: { member: 'Collect', inputs: [], output: { signature: 'a{sv}', schema: collectResultSchema } },
  settings: { member: 'Settings', inputs: [], output: { signature: 'a{sv}', schema: settingsSchema } },
  changeSettings: { member: 'ChangeSettings', inputs: [{ signature: 'a{sv}', schema: settingsSchema }] },
  encryption: {
    member: 'Encryption',
    inputs: [],
    output: { signature: 'a{sv}', schema: encryptionStatusSchema },
  },
  changeEncryption: {
    member: 'ChangeEncryption',
    inputs: [{ signature: 'a{sv}', schema: encryptionChangeSchema }],
    output: { signature: 'a{sv}', schema: encryptionStatusSchema },
  },
  doctor: { member: 'Doctor', inputs: [], output: { signature: 'aa{sv}', schema: doctorCheckSchema } },
  subscribe: { member: 'Subscribe', inputs: [] },
} as const satisfies Record<keyof EngineMethods, MethodWire>;

export const signals = {
  progress: { member: 'Progress', argument: { signature: 'a{sv}', schema: progressSchema } },
  workloadChanged: { member: 'WorkloadChanged', argument: { signature: 'a{sv}', schema: workloadSchema } },
  workloadForgotten: { member: 'WorkloadForgotten', argument: { signature: 's' } },
  pressureRose: { member: 'PressureRose', argument: { signature: 'a{sv}', schema: pressureSchema } },
  snapshotsChanged: { member: 'SnapshotsChanged', argument: { signature: 's' } },
} as const satisfies Record<keyof EngineSignals, SignalWire>;

export const introspectionXml =
  '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n  "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n<!-- The engine\'s contract. The annotation io.github.torpor.Type names the type of a dictionary in api/types.ts;\n     `npm run generate` makes api/engine1.ts from this file. -->\n<node name="/io/github/torpor/Engine1">\n  <interface name="io.github.torpor.Engine1">\n    <property name="Version" type="s" access="read"/>\n    <property name="StateDir" type="s" access="read"/>\n\n    <!-- The application profiles there are for the caller, what is wrong with those that are left out, and, for a\n         command, which ones are for it, why, and what they make of its start. Starts nothing. -->\n    <method name="Profiles">\n      <arg name="query" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="profileQuery"/></arg>\n      <arg name="report" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="profileReport"/></arg>\n    </method>\n    <!-- Takes back what the caller has agreed to, for all applications: it will be asked again. -->\n    <method name="TakeBack">\n      <arg name="consent" type="s" direction="in"/>\n    </method>\n    <!-- The plugins there are for the caller\'s workloads, and what is wrong with those that are left out. -->\n    <method name="Plugins">\n      <arg name="report" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="pluginReport"/></arg>\n    </method>\n    <!-- The caller is a plugin of that name: it exports io.github.torpor.Plugin1 at /io/github/torpor/Plugin1 on this\n         connection, and is called for the workloads of the user who it runs as, until it leaves the bus. -->\n    <method name="RegisterPlugin">\n      <arg name="name" type="s" direction="in"/>\n    </method>\n    <!-- Starts an application in a capsule and returns once it runs. -->\n    <method name="Run">\n      <arg name="spec" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="runSpec"/></arg>\n      <arg name="workload" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- The caller\'s workloads; root sees all. -->\n    <method name="List">\n      <arg name="workloads" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- One workload, by id, unique prefix of an id, or name. -->\n    <method name="Get">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="found" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- What ties a workload, or the process tree below a pid, to its surroundings. Touches nothing. -->\n    <method name="Inspect">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="inspection" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="inspection"/></arg>\n    </method>\n    <method name="Suspend">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="suspendOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="suspendResult"/></arg>\n    </method>\n    <!-- Suspends several workloads at one instant: all of them, or none. -->\n    <method name="SuspendSet">\n      <arg name="targets" type="as" direction="in"/>\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="suspendOptions"/></arg>\n      <arg name="results" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="suspendResult"/></arg>\n    </method>\n    <!-- What a nap of a workload, or of the process tree below a pid, would gain, and what stands in its way. Touches nothing. -->\n    <method name="PlanNap">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="plan" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="napPlan"/></arg>\n    </method>\n    <!-- Holds it still where it is, and has its memory written back; it is lost with the machine\'s next shutdown. -->\n    <method name="Nap">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="napOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="napResult"/></arg>\n    </method>\n    <!-- What the caller\'s applications have of memory, started by Torpor or not, and what putting them aside was measured to gain. -->\n    <method name="Memory">\n      <arg name="report" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="memoryReport"/></arg>\n    </method>\n    <!-- Names of programs that the caller never wants to nap. -->\n    <method name="NeverNap">\n      <arg name="names" type="as" direction="out"/>\n    </method>\n    <method name="SetNeverNap">\n      <arg name="name" type="s" direction="in"/>\n      <arg name="never" type="b" direction="in"/>\n    </method>\n    <!-- From here on PressureRose tells when programs wait for memory. Says whether this kernel can tell. -->\n    <method name="WatchPressure">\n      <arg name="watch" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="pressureWatch"/></arg>\n    </method>\n    <!-- Lets what naps go on. -->\n    <method name="Wake">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="wakeResult"/></arg>\n    </method>\n    <!-- Resumes a workload from its snapshot, or a snapshot by its id. -->\n    <method name="Resume">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="resumeOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="resumeResult"/></arg>\n    </method>\n    <!-- Resumes several workloads so that none runs before all are there; those of one session are connected again. -->\n    <method name="ResumeSet">\n      <arg name="targets" type="as" direction="in"/>\n      <arg name="choices" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="resumeChoices"/></arg>\n      <arg name="results" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="resumeResult"/></arg>\n    </method>\n    <!-- Suspends workloads at one instant, and keeps them under a name: those that are given, or all of the caller\'s that\n         run. All of them or none, but with `partial`. -->\n    <method name="SaveSession">\n      <arg name="name" type="s" direction="in"/>\n      <arg name="targets" type="as" direction="in"/>\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="sessionSaveOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="sessionSaveResult"/></arg>\n    </method>\n    <!-- Resumes what a session has, side by side, the last used first; what is connected to each other comes together.\n         One that cannot be resumed stays suspended, and the others come all the same. -->\n    <method name="RestoreSession">\n      <arg name="name" type="s" direction="in"/>\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="sessionRestoreOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="sessionRestoreResult"/></arg>\n    </method>\n    <!-- The sessions that have a name, the newest first. -->\n    <method name="Sessions">\n      <arg name="sessions" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="session"/></arg>\n    </method>\n    <!-- Forgets the name of a session. Its snapshots stay. -->\n    <method name="ForgetSession">\n      <arg name="name" type="s" direction="in"/>\n    </method>\n    <!-- At what the caller\'s workloads are saved by themselves, and whether they are restored at the log-in. -->\n    <method name="SessionPolicy">\n      <arg name="policy" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="sessionPolicyState"/></arg>\n    </method>\n    <!-- Changes that; `machine`, for root, what all users have who have not chosen themselves. -->\n    <method name="SetSessionPolicy">\n      <arg name="change" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="sessionPolicyChange"/></arg>\n      <arg name="policy" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="sessionPolicyState"/></arg>\n    </method>\n    <!-- The kernels there are, and whether the machine could jump to one of them and what runs come back there. Touches\n         nothing. -->\n    <method name="PlanKexec">\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="kexecOptions"/></arg>\n      <arg name="plan" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="kexecPlan"/></arg>\n    </method>\n    <!-- Saves all that runs, and starts another kernel by kexec. Where anything fails before that, all goes on as before. -->\n    <method name="Kexec">\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="kexecOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="kexecResult"/></arg>\n    </method>\n    <!-- What has become of the last jump, once that is known. -->\n    <method name="Arrival">\n      <arg name="arrival" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="arrival"/></arg>\n    </method>\n    <!-- Gives up a suspend or resume that is under way, or, by the path of a bundle, an export or import; what was there\n         before stays as it was. -->\n    <method name="Cancel">\n      <arg name="workload" type="s" direction="in"/>\n    </method>\n    <!-- Ends a running capsule: its processes get SIGTERM, then SIGKILL. -->\n    <method name="End">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="ended" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- Forgets a workload that has ended or is suspended, with all its snapshots; not where one of them is kept. -->\n    <method name="Forget">\n      <arg name="workload" type="s" direction="in"/>\n    </method>\n    <!-- Prepares a command inside a capsule; the returned socket carries its input, output and exit status\n         (api/exec-stream.ts) and starts it when the caller connects. -->\n    <method name="Exec">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="spec" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="execSpec"/></arg>\n      <arg name="socket" type="s" direction="out"/>\n    </method>\n    <!-- The windows of the application in a running capsule, the oldest first. -->\n    <method name="Windows">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="windows" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="capsuleWindow"/></arg>\n    </method>\n    <!-- The largest icon of a window up to 256 pixels, as a PNG file. -->\n    <method name="WindowIcon">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="window" type="u" direction="in"/>\n      <arg name="png" type="ay" direction="out"/>\n    </method>\n    <!-- Brings a window to the front and gives it the keyboard. -->\n    <method name="ActivateWindow">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="window" type="u" direction="in"/>\n    </method>\n    <!-- Asks every window to close, as its close button would: the application may ask its user first, and go on. -->\n    <method name="CloseWindows">\n      <arg name="workload" type="s" direction="in"/>\n    </method>\n    <!-- All snapshots of the caller, newest first; of one workload where it is not empty. -->\n    <method name="Snapshots">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="snapshots" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="snapshot"/></arg>\n    </method>\n    <!-- Takes snapshots of a workload, or of the process tree below a pid, at an interval from now on, for as long as it\n         runs, and whenever it runs again. The first one is taken at once where it runs: where that fails nothing is set. -->\n    <method name="SetInterval">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="interval" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="interval"/></arg>\n      <arg name="workload" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- Takes no more of them. Those that were taken stay. -->\n    <method name="EndInterval">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="workload" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- Removes a snapshot; one that is kept is not removed. -->\n    <method name="Remove">\n      <arg name="snapshot" type="s" direction="in"/>\n    </method>\n    <!-- Marks a snapshot as one that is not to be removed, or takes the mark away. -->\n    <method name="Keep">\n      <arg name="snapshot" type="s" direction="in"/>\n      <arg name="keep" type="b" direction="in"/>\n    </method>\n    <!-- Path of a PNG file that only the caller can read: the screen as it was when the snapshot was taken, as\n         `thumbnail` (at most 320x200) or `full`. To be read at once: the engine removes it when the snapshot goes, and\n         full ones when many others have been asked for. -->\n    <method name="Picture">\n      <arg name="snapshot" type="s" direction="in"/>\n      <arg name="size" type="s" direction="in"/>\n      <arg name="path" type="s" direction="out"/>\n    </method>\n    <!-- Checks every snapshot\'s structure, with readData every byte against its hash, with subset a part of them. -->\n    <method name="Verify">\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="verifyOptions"/></arg>\n      <arg name="results" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="verifyResult"/></arg>\n    </method>\n    <!-- Writes workloads into one bundle: suspends those that run, then writes, and reads all of it back. What is suspended\n         stays so here, with its snapshot. -->\n    <method name="Export">\n      <arg name="targets" type="as" direction="in"/>\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="exportOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="exportResult"/></arg>\n    </method>\n    <!-- Takes the workloads of a bundle in, as suspended ones of the caller\'s: all of them, or none. -->\n    <method name="Import">\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="importOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="importResult"/></arg>\n    </method>\n    <!-- Removes from the store what no snapshot needs any more, at once; the engine does it by itself sooner or later. -->\n    <method name="Collect">\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="collectResult"/></arg>\n    </method>\n    <!-- The settings of the engine; root\'s alone, as changing them is. -->\n    <method name="Settings">\n      <arg name="settings" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="settings"/></arg>\n    </method>\n    <!-- Replaces all of them: what is not given is as it comes. -->\n    <method name="ChangeSettings">\n      <arg name="settings" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="settings"/></arg>\n    </method>\n    <!-- How snapshots are encrypted; for root, and the user that root has named when it was turned on. -->\n    <method name="Encryption">\n      <arg name="status" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="encryptionStatus"/></arg>\n    </method>\n    <!-- Turns encryption on or off (root), locks or unlocks its key, or changes what unlocks it (the same user too). -->\n    <method name="ChangeEncryption">\n      <arg name="change" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="encryptionChange"/></arg>\n      <arg name="status" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="encryptionStatus"/></arg>\n    </method>\n    <method name="Doctor">\n      <arg name="checks" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="doctorCheck"/></arg>\n    </method>\n    <!-- From here on the caller gets the signals below, for its own workloads, until it leaves the bus. They are\n         sent to subscribers one by one, never broadcast, so that no user sees another\'s applications. -->\n    <method name="Subscribe"/>\n\n    <signal name="Progress">\n      <arg name="progress" type="a{sv}"><annotation name="io.github.torpor.Type" value="progress"/></arg>\n    </signal>\n    <signal name="WorkloadChanged">\n      <arg name="workload" type="a{sv}"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </signal>\n    <!-- There is no such workload any more: it was forgotten, or has not come to run. -->\n    <signal name="WorkloadForgotten">\n      <arg name="workload" type="s"/>\n    </signal>\n    <!-- Programs have waited for memory for more than a twentieth of the last two seconds. Told once in that time at most. -->\n    <signal name="PressureRose">\n      <arg name="pressure" type="a{sv}"><annotation name="io.github.torpor.Type" value="pressure"/></arg>\n    </signal>\n    <!-- A snapshot of this workload was made, resumed from, kept or removed. Empty where nobody knows whose it was. -->\n    <signal name="SnapshotsChanged">\n      <arg name="workload" type="s"/>\n    </signal>\n  </interface>\n</node>\n';
