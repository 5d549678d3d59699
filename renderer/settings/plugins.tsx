/** The plugins that are called before a suspend and after a resume, and whether they answer. */
import { useEffect, useState } from 'react';
import type { PluginReportView } from '../../main/ipc/view.ts';
import { useAppState, useModel } from '../model.ts';
import { useText } from '../texts/use-text.ts';
import { Row, Section } from './rows.tsx';

export function Plugins() {
  const say = useText();
  const report = usePlugins();
  if (report === undefined) return null;
  return (
    <Section title={say('settings.plugins')} help={say('settings.plugins.help')}>
      {report.plugins.length === 0 && <Row label={say('settings.plugins.none')}>{null}</Row>}
      {report.plugins.map((plugin) => (
        <PluginRow key={plugin.name} plugin={plugin} />
      ))}
      {report.problems.map((problem) => (
        <Row key={problem} label={say('settings.plugins.left')}>
          <p className="wrong" lang="en">
            {problem}
          </p>
        </Row>
      ))}
    </Section>
  );
}

type PluginView = PluginReportView['plugins'][number];

function PluginRow({ plugin: { name, title, policy, problem } }: { plugin: PluginView }) {
  const say = useText();
  return (
    <Row label={title || name} help={name}>
      {problem === undefined ? (
        <p className="meta">
          {policy === 'required' ? say('settings.plugins.required') : say('settings.plugins.optional')}
        </p>
      ) : (
        <p className="wrong">
          {say('settings.plugins.fails')} <span lang="en">{problem}</span>
        </p>
      )}
    </Row>
  );
}

/** Asked when the page is opened, and when the engine has come. Undefined until it has answered. */
function usePlugins(): PluginReportView | undefined {
  const model = useModel();
  const { engine } = useAppState();
  const [report, setReport] = useState<PluginReportView>();
  const isReady = engine.kind === 'ready';
  useEffect(() => {
    let isWanted = isReady;
    const ask = async () => {
      // Where it cannot be asked the connection's own sentence says so.
      const found = await model.bridge.call('plugins.list').catch(() => undefined);
      if (isWanted) setReport(found);
    };
    if (isReady) void ask();
    return () => {
      isWanted = false;
    };
  }, [model, isReady]);
  return report;
}
