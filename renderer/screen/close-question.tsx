/** What is to become of the application when its window is closed. */
import { Dialog } from '../parts/dialog.tsx';
import { Glyph, type GlyphName } from '../parts/glyph.tsx';
import { useScreenText } from './texts/use-text.ts';

export type CloseAnswer = 'leave' | 'suspend' | 'quit';

interface CloseQuestionProps {
  title: string;
  onAnswer: (answer: CloseAnswer) => void;
  onClose: () => void;
}

const glyphs: Record<CloseAnswer, GlyphName> = { leave: 'play', suspend: 'moon', quit: 'end' };

export function CloseQuestion({ title, onAnswer, onClose }: CloseQuestionProps) {
  const say = useScreenText();
  const choice = (answer: CloseAnswer, label: string, text: string) => (
    <button type="button" className="screen-choice" onClick={() => onAnswer(answer)}>
      <Glyph name={glyphs[answer]} />
      <span>
        <strong>{label}</strong>
        <span className="hint">{text}</span>
      </span>
    </button>
  );
  return (
    <Dialog
      title={say('screen.question.title', { title })}
      onClose={onClose}
      actions={
        <button type="button" className="button" onClick={onClose}>
          {say('screen.question.stay')}
        </button>
      }
    >
      <p>{say('screen.question.text')}</p>
      <div className="screen-choices">
        {choice('leave', say('screen.question.leave'), say('screen.question.leave.text'))}
        {choice('suspend', say('screen.question.suspend'), say('screen.question.suspend.text'))}
        {choice('quit', say('screen.question.quit', { title }), say('screen.question.quit.text'))}
      </div>
    </Dialog>
  );
}
