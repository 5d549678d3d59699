/** One application that can be started, or why it cannot. */
import type { Application } from '../../main/ipc/view.ts';
import { MenuButton } from '../parts/menu.tsx';
import { useText } from '../texts/use-text.ts';

interface TileProps {
  application: Application;
  isStarting: boolean;
  onLaunch: (action?: string) => void;
}

export function ApplicationTile({ application, isStarting, onLaunch }: TileProps) {
  const { name, comment, icon, actions, problem } = application;
  const say = useText();
  const content = (
    <>
      <img className="app-icon" src={icon} alt="" width="40" height="40" loading="lazy" />
      <span className="tile-text">
        <span className="tile-name">{name}</span>
        <span className="tile-comment">
          {problem ?? (isStarting ? say('launch.starting', { name }) : comment)}
        </span>
      </span>
    </>
  );
  if (problem !== undefined)
    return (
      <li className="tile tile-broken">
        <div className="tile-content">{content}</div>
      </li>
    );
  return (
    <li className="tile">
      <button
        type="button"
        className="tile-content tile-main"
        aria-busy={isStarting}
        onClick={() => onLaunch()}
      >
        {content}
      </button>
      {actions.length > 0 && (
        <MenuButton
          name={say('launch.actions', { name })}
          items={actions.map((action) => ({
            kind: 'command',
            id: action.id,
            label: action.name,
            act: () => onLaunch(action.id),
          }))}
        />
      )}
    </li>
  );
}
