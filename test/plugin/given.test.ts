/** The suite for the plugin that scripts/test-plugin.ts has been given. */
import { conformance } from './conformance.ts';
import { findSubject } from './subject.ts';

const { TORPOR_TEST_PLUGIN = '', TORPOR_TEST_PLUGIN_USER = 'root' } = process.env;

conformance(await findSubject(TORPOR_TEST_PLUGIN, TORPOR_TEST_PLUGIN_USER));
