/** A picture of an application's screen, or a word where there is none. */
import { useState } from 'react';
import { useText } from '../texts/use-text.ts';

/** @param alt empty where what is around it names it already */
export function Picture({ address, alt }: { address: string | undefined; alt: string }) {
  const say = useText();
  const [failed, setFailed] = useState<string>();
  if (address === undefined || address === failed)
    return <span className="thumbnail-none">{say('card.nopicture')}</span>;
  return <img src={address} alt={alt} draggable={false} onError={() => setFailed(address)} />;
}
