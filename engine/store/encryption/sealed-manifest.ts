/**
 * What of a manifest is nobody's business who has not the key: programs and their arguments, environment, files and what
 * plugins gave. What is left says whose snapshot it is, of what, from when and how large, so that it is listed, kept and
 * removed while the key is locked.
 */
import type { Manifest } from '../../../proto/manifest.ts';
import type { Encryption } from './encryption.ts';
import type { FileKey } from './frames.ts';

/** Its secrets stand in {@link Manifest.encryption}. */
function withoutSecrets(manifest: Manifest): Manifest {
  const {
    externalSockets: _sockets,
    network: _network,
    sharedPipes: _pipes,
    inhibitors: _inhibitors,
    movedSockets: _moved,
    documentLocks: _locks,
    ...common
  } = { ...manifest, processes: [], findings: [], surroundings: [] };
  const plugins = manifest.plugins?.map((plugin) => ({ ...plugin, state: '' }));
  // Something must stand there, and its name is known anyway.
  const plain = { command: [manifest.name], cwd: '/' };
  const kind =
    manifest.kind === 'job'
      ? { kind: manifest.kind, job: { ...manifest.job, ...plain } }
      : { kind: manifest.kind, capsule: { ...capsuleWithoutProfiles(manifest.capsule), ...plain, env: {} } };
  return { ...common, ...kind, ...(plugins === undefined ? {} : { plugins }) } as Manifest;
}

function capsuleWithoutProfiles<T extends { profiles?: unknown }>({ profiles: _profiles, ...others }: T) {
  return others;
}

/** @param key by which its files are encrypted. */
export function sealManifest(encryption: Encryption, manifest: Manifest, key: FileKey): Manifest {
  const sealed = encryption.sealText(key, JSON.stringify(manifest), manifest.id);
  return { ...withoutSecrets(manifest), encryption: { keyId: key.id, sealed } };
}

/**
 * As it was before it was sealed; where the key is locked, without its secrets and marked so.
 * @throws Error where what was sealed is damaged, or belongs to another manifest.
 */
export function openManifest(encryption: Encryption | undefined, manifest: Manifest): Manifest {
  if (manifest.encryption === undefined) return manifest;
  const { keyId, sealed } = manifest.encryption;
  const text = encryption?.openText(keyId, sealed, manifest.id);
  if (text === undefined) return { ...manifest, isLocked: true };
  return { ...(JSON.parse(text) as Manifest), encryption: manifest.encryption };
}
