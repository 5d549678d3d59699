/** Where a window of ours is on the desktop: what is remembered of it, so that it can be opened there again. */
import { z } from 'zod';

const pixels = z.number().int().min(-100_000).max(100_000);

export const windowPlacementSchema = z.object({
  /** Of what is inside its frame, in pixels of the screen; absent under Wayland, where only the compositor knows. */
  position: z.object({ x: pixels, y: pixels }).optional(),
  /** Likewise. */
  size: z.object({ width: pixels.positive(), height: pixels.positive() }),
  state: z.enum(['normal', 'maximised', 'full-screen']),
  /** The number of its workspace, from 0, or that it is on all of them; absent where the desktop does not say. */
  workspace: z.union([z.number().int().nonnegative(), z.literal('all')]).optional(),
});
export type WindowPlacement = z.infer<typeof windowPlacementSchema>;
