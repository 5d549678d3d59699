// Made by `npm run generate` from io.github.torpor.Engine1.xml; change that file, not this one.
import {
  type DoctorCheck,
  doctorCheckSchema,
  type ExecSpec,
  execSpecSchema,
  type Inspection,
  inspectionSchema,
  type Progress,
  progressSchema,
  type ResumeOptions,
  type ResumeResult,
  type RunSpec,
  resumeOptionsSchema,
  resumeResultSchema,
  runSpecSchema,
  type Snapshot,
  type SuspendOptions,
  type SuspendResult,
  snapshotSchema,
  suspendOptionsSchema,
  suspendResultSchema,
  type VerifyOptions,
  type VerifyResult,
  verifyOptionsSchema,
  verifyResultSchema,
  type Workload,
  workloadSchema,
} from './types.ts';
import type { MethodWire, SignalWire } from './wire.ts';

export const interfaceName = 'io.github.torpor.Engine1';
export const objectPath = '/io/github/torpor/Engine1';

export interface EngineMethods {
  run(spec: RunSpec): Promise<Workload>;
  list(): Promise<Workload[]>;
  get(workload: string): Promise<Workload>;
  inspect(target: string): Promise<Inspection>;
  suspend(target: string, options: SuspendOptions): Promise<SuspendResult>;
  resume(target: string, options: ResumeOptions): Promise<ResumeResult>;
  cancel(workload: string): Promise<void>;
  end(workload: string): Promise<Workload>;
  exec(workload: string, spec: ExecSpec): Promise<string>;
  snapshots(workload: string): Promise<Snapshot[]>;
  remove(snapshot: string): Promise<void>;
  verify(options: VerifyOptions): Promise<VerifyResult[]>;
  doctor(): Promise<DoctorCheck[]>;
  subscribe(): Promise<void>;
}

export interface EngineSignals {
  progress: Progress;
  workloadChanged: Workload;
}

export const methods = {
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
  resume: {
    member: 'Resume',
    inputs: [{ signature: 's' }, { signature: 'a{sv}', schema: resumeOptionsSchema }],
    output: { signature: 'a{sv}', schema: resumeResultSchema },
  },
  cancel: { member: 'Cancel', inputs: [{ signature: 's' }] },
  end: {
    member: 'End',
    inputs: [{ signature: 's' }],
    output: { signature: 'a{sv}', schema: workloadSchema },
  },
  exec: {
    member: 'Exec',
    inputs: [{ signature: 's' }, { signature: 'a{sv}', schema: execSpecSchema }],
    output: { signature: 's' },
  },
  snapshots: {
    member: 'Snapshots',
    inputs: [{ signature: 's' }],
    output: { signature: 'aa{sv}', schema: snapshotSchema },
  },
  remove: { member: 'Remove', inputs: [{ signature: 's' }] },
  verify: {
    member: 'Verify',
    inputs: [{ signature: 'a{sv}', schema: verifyOptionsSchema }],
    output: { signature: 'aa{sv}', schema: verifyResultSchema },
  },
  doctor: { member: 'Doctor', inputs: [], output: { signature: 'aa{sv}', schema: doctorCheckSchema } },
  subscribe: { member: 'Subscribe', inputs: [] },
} as const satisfies Record<keyof EngineMethods, MethodWire>;

export const signals = {
  progress: { member: 'Progress', argument: { signature: 'a{sv}', schema: progressSchema } },
  workloadChanged: { member: 'WorkloadChanged', argument: { signature: 'a{sv}', schema: workloadSchema } },
} as const satisfies Record<keyof EngineSignals, SignalWire>;

export const introspectionXml =
  '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n  "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n<!-- The engine\'s contract. The annotation io.github.torpor.Type names the type of a dictionary in api/types.ts;\n     `npm run generate` makes api/engine1.ts from this file. -->\n<node name="/io/github/torpor/Engine1">\n  <interface name="io.github.torpor.Engine1">\n    <property name="Version" type="s" access="read"/>\n    <property name="StateDir" type="s" access="read"/>\n\n    <!-- Starts an application in a capsule and returns once it runs. -->\n    <method name="Run">\n      <arg name="spec" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="runSpec"/></arg>\n      <arg name="workload" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- The caller\'s workloads; root sees all. -->\n    <method name="List">\n      <arg name="workloads" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- One workload, by id, unique prefix of an id, or name. -->\n    <method name="Get">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="found" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- What ties a workload, or the process tree below a pid, to its surroundings. Touches nothing. -->\n    <method name="Inspect">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="inspection" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="inspection"/></arg>\n    </method>\n    <method name="Suspend">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="suspendOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="suspendResult"/></arg>\n    </method>\n    <!-- Resumes a workload from its snapshot, or a snapshot by its id. -->\n    <method name="Resume">\n      <arg name="target" type="s" direction="in"/>\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="resumeOptions"/></arg>\n      <arg name="result" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="resumeResult"/></arg>\n    </method>\n    <!-- Gives up a suspend or resume that is under way; the workload stays as it was before. -->\n    <method name="Cancel">\n      <arg name="workload" type="s" direction="in"/>\n    </method>\n    <!-- Ends a running capsule: its processes get SIGTERM, then SIGKILL. -->\n    <method name="End">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="ended" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </method>\n    <!-- Prepares a command inside a capsule; the returned socket carries its input, output and exit status\n         (api/exec-stream.ts) and starts it when the caller connects. -->\n    <method name="Exec">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="spec" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="execSpec"/></arg>\n      <arg name="socket" type="s" direction="out"/>\n    </method>\n    <!-- All snapshots of the caller, newest first; of one workload where it is not empty. -->\n    <method name="Snapshots">\n      <arg name="workload" type="s" direction="in"/>\n      <arg name="snapshots" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="snapshot"/></arg>\n    </method>\n    <method name="Remove">\n      <arg name="snapshot" type="s" direction="in"/>\n    </method>\n    <!-- Checks every snapshot\'s structure, with readData every byte against its hash. -->\n    <method name="Verify">\n      <arg name="options" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="verifyOptions"/></arg>\n      <arg name="results" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="verifyResult"/></arg>\n    </method>\n    <method name="Doctor">\n      <arg name="checks" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="doctorCheck"/></arg>\n    </method>\n    <!-- From here on the caller gets the signals below, for its own workloads, until it leaves the bus. They are\n         sent to subscribers one by one, never broadcast, so that no user sees another\'s applications. -->\n    <method name="Subscribe"/>\n\n    <signal name="Progress">\n      <arg name="progress" type="a{sv}"><annotation name="io.github.torpor.Type" value="progress"/></arg>\n    </signal>\n    <signal name="WorkloadChanged">\n      <arg name="workload" type="a{sv}"><annotation name="io.github.torpor.Type" value="workload"/></arg>\n    </signal>\n  </interface>\n</node>\n';
