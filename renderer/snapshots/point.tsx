/** One snapshot of the timeline: its picture, when it was taken, what it costs, and what can be done with it. */
import { useState } from 'react';
import type { SnapshotView, WorkloadView } from '../../main/ipc/view.ts';
import { useModel, useNow } from '../model.ts';
import { Confirm, Dialog } from '../parts/dialog.tsx';
import { Glyph } from '../parts/glyph.tsx';
import { MenuButton } from '../parts/menu.tsx';
import { Picture } from '../parts/picture.tsx';
import { useFigures, useText } from '../texts/use-text.ts';

interface PointProps {
  workload: WorkloadView;
  snapshot: SnapshotView;
  isBusy: boolean;
  onGo: () => void;
}

export function TimelinePoint({ workload, snapshot, isBusy, onGo }: PointProps) {
  const { title, state } = workload;
  const { id, takenAt, thumbnail, picture, current, kept, atInterval, damaged, usedAt } = snapshot;
  const say = useText();
  const figures = useFigures();
  const model = useModel();
  const now = useNow();
  const [shown, setShown] = useState<'picture' | 'remove'>();
  const time = figures.moment(takenAt);
  const isNeeded = current && state === 'suspended';

  async function perform(work: () => Promise<unknown>, said: string) {
    try {
      await work();
      model.notify({ level: 'info', message: said, hint: '' });
    } catch (error) {
      model.fail(error);
    }
  }
  const resumeCopy = () =>
    perform(async () => {
      const copy = await model.bridge.call('snapshot.resumeCopy', id);
      await model.bridge.call('window.open', { kind: 'screen', workload: copy });
    }, say('said.copied'));
  const keep = () =>
    perform(() => model.bridge.call('snapshot.keep', id, !kept), say(kept ? 'said.unkept' : 'said.kept'));
  const remove = () => perform(() => model.bridge.call('snapshot.remove', id), say('said.removed'));

  return (
    <li className={current ? 'point point-current' : 'point'} data-snapshot={id}>
      {thumbnail === undefined || picture === undefined ? (
        <div className="point-picture">
          <Picture address={thumbnail} alt={say('snapshots.picture', { title, time })} />
        </div>
      ) : (
        <button type="button" className="point-picture" onClick={() => setShown('picture')}>
          <span className="visually-hidden">{say('snapshots.look.name', { time })}</span>
          <Picture address={thumbnail} alt="" />
        </button>
      )}
      <div className="point-text">
        <h3>
          <time dateTime={takenAt} title={time}>
            {figures.time(takenAt)}
          </time>
          {current && (
            <span className="badge badge-accent">
              {say(state === 'suspended' ? 'snapshots.current.suspended' : 'snapshots.current.running')}
            </span>
          )}
          {atInterval && <span className="badge">{say('snapshots.atInterval')}</span>}
          {kept && (
            <span className="badge">
              <Glyph name="pin" />
              {say('snapshots.kept')}
            </span>
          )}
        </h3>
        <p className="meta">
          {say('snapshots.cost', { bytes: figures.bytes(snapshot.bytesOnDisk) })}
          {' · '}
          {say('snapshots.memory', { bytes: figures.bytes(snapshot.memoryBytes) })}
          {usedAt !== undefined && (
            <> · {say('snapshots.used', { ago: figures.ago(usedAt, now) ?? say('since.now') })}</>
          )}
        </p>
        {damaged !== undefined && <p className="damaged">{say('snapshots.damaged', { reason: damaged })}</p>}
        <div className="point-actions">
          {damaged === undefined && (
            <button
              type="button"
              className="button"
              disabled={isBusy}
              aria-label={say('snapshots.goTo.name', { time })}
              onClick={onGo}
            >
              {say('snapshots.goTo')}
            </button>
          )}
          <MenuButton
            name={say('snapshots.menu.name', { time })}
            items={[
              ...(picture === undefined
                ? []
                : [
                    {
                      kind: 'command' as const,
                      id: 'look',
                      label: say('snapshots.look'),
                      glyph: 'eye' as const,
                      act: () => setShown('picture'),
                    },
                  ]),
              ...(damaged === undefined
                ? [
                    {
                      kind: 'command' as const,
                      id: 'copy',
                      label: say('snapshots.copy'),
                      glyph: 'copy' as const,
                      act: () => void resumeCopy(),
                    },
                  ]
                : []),
              {
                kind: 'command',
                id: 'keep',
                label: say(kept ? 'snapshots.unkeep' : 'snapshots.keep'),
                glyph: 'pin',
                act: () => void keep(),
              },
              { kind: 'separator', id: 'separator' },
              {
                kind: 'command',
                id: 'remove',
                label: say('snapshots.remove'),
                glyph: 'trash',
                danger: true,
                act: () => setShown('remove'),
              },
            ]}
          />
        </div>
      </div>
      {shown === 'picture' && picture !== undefined && (
        <Dialog
          title={time}
          size="wide"
          onClose={() => setShown(undefined)}
          actions={
            <button type="button" className="button" onClick={() => setShown(undefined)}>
              {say('dialog.close')}
            </button>
          }
        >
          <img className="picture" src={picture} alt={say('snapshots.picture', { title, time })} />
        </Dialog>
      )}
      {shown === 'remove' && (
        <Confirm
          title={say('snapshots.remove.title', { time })}
          text={[
            isNeeded && say('snapshots.remove.current', { title }),
            say('snapshots.remove.text', { bytes: figures.bytes(snapshot.bytesOnDisk) }),
          ]
            .filter((text) => text !== false)
            .join(' ')}
          confirm={say('snapshots.remove.confirm')}
          onConfirm={() => void remove()}
          onClose={() => setShown(undefined)}
        />
      )}
    </li>
  );
}
