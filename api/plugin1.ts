// Made by `npm run generate` from io.github.torpor.Plugin1.xml; change that file, not this one.
import {
  type PluginDescription,
  type PluginFinding,
  type PluginWorkload,
  pluginDescriptionSchema,
  pluginFindingSchema,
  pluginWorkloadSchema,
} from './plugin-types.ts';
import type { MethodWire } from './wire.ts';

export const interfaceName = 'io.github.torpor.Plugin1';
export const objectPath = '/io/github/torpor/Plugin1';

export interface PluginMethods {
  describe(host: number): Promise<PluginDescription>;
  inspect(workload: PluginWorkload): Promise<PluginFinding[]>;
  preSuspend(workload: PluginWorkload): Promise<Uint8Array>;
  postResume(workload: PluginWorkload, state: Uint8Array): Promise<PluginFinding[]>;
  abort(workload: PluginWorkload, state: Uint8Array): Promise<void>;
}

export const methods = {
  describe: {
    member: 'Describe',
    inputs: [{ signature: 'u' }],
    output: { signature: 'a{sv}', schema: pluginDescriptionSchema },
  },
  inspect: {
    member: 'Inspect',
    inputs: [{ signature: 'a{sv}', schema: pluginWorkloadSchema }],
    output: { signature: 'aa{sv}', schema: pluginFindingSchema },
  },
  preSuspend: {
    member: 'PreSuspend',
    inputs: [{ signature: 'a{sv}', schema: pluginWorkloadSchema }],
    output: { signature: 'ay' },
  },
  postResume: {
    member: 'PostResume',
    inputs: [{ signature: 'a{sv}', schema: pluginWorkloadSchema }, { signature: 'ay' }],
    output: { signature: 'aa{sv}', schema: pluginFindingSchema },
  },
  abort: {
    member: 'Abort',
    inputs: [{ signature: 'a{sv}', schema: pluginWorkloadSchema }, { signature: 'ay' }],
  },
} as const satisfies Record<keyof PluginMethods, MethodWire>;

export const introspectionXml =
  '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n  "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n<!-- What a plugin answers. The annotation io.github.torpor.Type names the type of a dictionary in api/plugin-types.ts;\n     `npm run generate` makes api/plugin1.ts from this file. docs/plugins.md says when each method is called. -->\n<node name="/io/github/torpor/Plugin1">\n  <interface name="io.github.torpor.Plugin1">\n    <!-- What it is and how it wants to be called. `host` is the highest version of this interface that the engine\n         knows; the answer has the one that the plugin speaks. -->\n    <method name="Describe">\n      <arg name="host" type="u" direction="in"/>\n      <arg name="description" type="a{sv}" direction="out"><annotation name="io.github.torpor.Type" value="pluginDescription"/></arg>\n    </method>\n    <!-- What of the workload it takes care of, or what stands in the way of a suspend. Touches nothing. -->\n    <method name="Inspect">\n      <arg name="workload" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="pluginWorkload"/></arg>\n      <arg name="findings" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="pluginFinding"/></arg>\n    </method>\n    <!-- Detaches the workload, which still runs, from what the plugin is for. The state, at most 64 KiB, goes into the\n         snapshot and comes back as it is. -->\n    <method name="PreSuspend">\n      <arg name="workload" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="pluginWorkload"/></arg>\n      <arg name="state" type="ay" direction="out"/>\n    </method>\n    <!-- Establishes it again. -->\n    <method name="PostResume">\n      <arg name="workload" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="pluginWorkload"/></arg>\n      <arg name="state" type="ay" direction="in"/>\n      <arg name="findings" type="aa{sv}" direction="out"><annotation name="io.github.torpor.Type" value="pluginFinding"/></arg>\n    </method>\n    <!-- The suspend has come to nothing, or was to leave the workload running, or the resume has failed: undoes what the\n         call before it did. The state is empty where the engine never got one. -->\n    <method name="Abort">\n      <arg name="workload" type="a{sv}" direction="in"><annotation name="io.github.torpor.Type" value="pluginWorkload"/></arg>\n      <arg name="state" type="ay" direction="in"/>\n    </method>\n  </interface>\n</node>\n';
