/** Pseudo terminals by names that are the same for both ends: each instance of devpts counts its terminals from 0. */

/** The kernel's devices.txt: 136 to 143 are the slaves of pseudo terminals, 5:2 is ptmx. */
const slaveMajors = { first: 136, last: 143 };
const ptmx = { major: 5, minor: 2 };

export const isSlave = (major: number) => major >= slaveMajors.first && major <= slaveMajors.last;
export const isMaster = (major: number, minor: number) => major === ptmx.major && minor === ptmx.minor;

/** @param instance device number of the devpts. */
export const terminalKey = (instance: bigint | undefined, index: number) => `${instance ?? ''}#${index}`;

/** By the device number of the slave. */
export const slaveKey = (instance: bigint | undefined, major: number, minor: number) =>
  terminalKey(instance, (major - slaveMajors.first) * 256 + minor);
