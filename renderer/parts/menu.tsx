/**
 * A button with a menu: arrow keys, Home and End move, Enter takes, Escape and Tab close, as in menus of the desktop.
 * The list is in the top layer, so that no card cuts it off.
 */
import { type KeyboardEvent, useEffect, useId, useRef, useState } from 'react';
import { Glyph, type GlyphName } from './glyph.tsx';

export type MenuItem =
  | { kind: 'command'; id: string; label: string; glyph?: GlyphName; danger?: boolean; act: () => void }
  | { kind: 'separator'; id: string };

const gap = 4;

export function MenuButton({ name, items, label }: { name: string; items: MenuItem[]; label?: string }) {
  const [isOpen, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();

  useEffect(() => {
    if (!isOpen) return;
    const menu = list.current;
    menu?.showPopover();
    place(menu, button.current);
    focusItem(menu, 0);
    const closed = (event: Event) => {
      if ((event as ToggleEvent).newState === 'closed') setOpen(false);
    };
    const scrolled = () => setOpen(false);
    menu?.addEventListener('toggle', closed);
    addEventListener('resize', scrolled);
    return () => {
      menu?.removeEventListener('toggle', closed);
      removeEventListener('resize', scrolled);
    };
  }, [isOpen]);

  const close = (backToButton: boolean) => {
    if (backToButton) button.current?.focus();
    setOpen(false);
  };

  function moved(event: KeyboardEvent) {
    const menu = list.current;
    const entries = menuItems(menu);
    const at = entries.indexOf(document.activeElement as HTMLElement);
    const to = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      Home: 0,
      End: entries.length - 1,
    }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      focusItem(menu, to);
    } else if (event.key === 'Escape' || event.key === 'Tab') {
      if (event.key === 'Escape') event.preventDefault();
      event.stopPropagation();
      close(true);
    } else if (event.key.length === 1 && event.key !== ' ') {
      const wanted = event.key.toLocaleLowerCase();
      const order = [...entries.slice(at + 1), ...entries.slice(0, at + 1)];
      order.find((entry) => entry.textContent?.toLocaleLowerCase().startsWith(wanted))?.focus();
    }
  }

  return (
    <>
      <button
        ref={button}
        type="button"
        className={label === undefined ? 'button button-quiet button-icon' : 'button'}
        aria-haspopup="menu"
        aria-expanded={isOpen}
        aria-controls={isOpen ? id : undefined}
        aria-label={name}
        title={label === undefined ? name : undefined}
        onClick={() => setOpen(true)}
        onKeyDown={(event) => {
          if (event.key !== 'ArrowDown') return;
          event.preventDefault();
          setOpen(true);
        }}
      >
        {label}
        <Glyph name="more" />
      </button>
      {isOpen && (
        <div
          ref={list}
          id={id}
          role="menu"
          aria-label={name}
          popover="auto"
          className="menu"
          onKeyDown={moved}
        >
          {items.map((item) =>
            item.kind === 'separator' ? (
              // biome-ignore lint/a11y/useSemanticElements: a menu may hold no <hr>
              <div key={item.id} role="separator" className="menu-separator" />
            ) : (
              <button
                key={item.id}
                type="button"
                role="menuitem"
                tabIndex={-1}
                className={item.danger ? 'menu-item menu-item-danger' : 'menu-item'}
                onClick={() => {
                  close(true);
                  item.act();
                }}
              >
                {item.glyph && <Glyph name={item.glyph} />}
                {item.label}
              </button>
            ),
          )}
        </div>
      )}
    </>
  );
}

function menuItems(menu: HTMLElement | null): HTMLElement[] {
  return [...(menu?.querySelectorAll<HTMLElement>('[role=menuitem]') ?? [])];
}

function focusItem(menu: HTMLElement | null, index: number): void {
  const entries = menuItems(menu);
  entries.at(index % entries.length)?.focus();
}

/** Below the button, flush with its end; above it where there is no room. */
function place(menu: HTMLElement | null, button: HTMLElement | null): void {
  if (menu === null || button === null) return;
  const at = button.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const below = at.bottom + gap;
  const top = below + height <= innerHeight ? below : Math.max(gap, at.top - gap - height);
  const left = Math.min(Math.max(gap, at.right - width), innerWidth - width - gap);
  menu.style.setProperty('top', `${top}px`);
  menu.style.setProperty('left', `${left}px`);
}
