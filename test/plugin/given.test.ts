/** The suite for the plugin that scripts/test-plugin.ts has been given. */
import { conformance } from './conformance.ts';
import { findSubject } from './subject.ts';
import { type Given, givenSurroundings } from './surroundings.ts';

const { plugin, user, ...surroundings } = JSON.parse(process.env.TORPOR_TEST_PLUGIN ?? '') as Given;
const subject = await findSubject(plugin, user);
conformance(subject, async () => givenSurroundings(subject.user, surroundings));
