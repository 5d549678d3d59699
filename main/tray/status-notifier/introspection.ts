/** What an object says of itself when it is introspected: the XML format of the D-Bus specification. */
import type { BusInterface } from './bus-object.ts';

/** Names and signatures come from our own tables and hold nothing that XML would need escaped. */
export function introspectionXml(interfaces: Iterable<BusInterface>): string {
  const lines = [
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"',
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">',
    '<node>',
  ];
  for (const { name, methods, signals, properties } of interfaces) {
    lines.push(`  <interface name="${name}">`);
    for (const [member, { input, output }] of Object.entries(methods)) {
      lines.push(`    <method name="${member}">`);
      for (const [argument, type] of input)
        lines.push(`      <arg name="${argument}" type="${type}" direction="in"/>`);
      for (const [argument, type] of output)
        lines.push(`      <arg name="${argument}" type="${type}" direction="out"/>`);
      lines.push('    </method>');
    }
    for (const [member, args] of Object.entries(signals)) {
      lines.push(`    <signal name="${member}">`);
      for (const [argument, type] of args) lines.push(`      <arg name="${argument}" type="${type}"/>`);
      lines.push('    </signal>');
    }
    for (const [member, type] of Object.entries(properties))
      lines.push(`    <property name="${member}" type="${type}" access="read"/>`);
    lines.push('  </interface>');
  }
  return [...lines, '</node>', ''].join('\n');
}
