/** Catches defects of the page, so that they are a sentence and not a blank page. */
import { Component, type ErrorInfo, type ReactNode } from 'react';
import type { Text } from './texts/use-text.ts';
import { Unavailable } from './unavailable.tsx';

interface Props {
  say: Text;
  /** A change of it, such as another place, gives the page another try. */
  place: string;
  children: ReactNode;
}

export class DefectBoundary extends Component<Props, { failedAt: string | undefined }> {
  override state: { failedAt: string | undefined } = { failedAt: undefined };

  static getDerivedStateFromError(): { failedAt: string } {
    return { failedAt: location.hash };
  }

  override componentDidCatch(error: Error, info: ErrorInfo): void {
    console.error(error, info.componentStack);
  }

  override componentDidUpdate(before: Props): void {
    if (before.place !== this.props.place && this.state.failedAt !== undefined)
      this.setState({ failedAt: undefined });
  }

  override render(): ReactNode {
    const { say, children } = this.props;
    if (this.state.failedAt === undefined) return children;
    return (
      <Unavailable
        message={say('defect.title')}
        hint={say('defect.hint')}
        action={{ label: say('defect.reload'), act: () => location.reload() }}
      />
    );
  }
}
