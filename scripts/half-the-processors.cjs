/**
 * Loaded before a test file that runs beside another, and before the programs that it starts (scripts/test.mjs): they find half of the
 * processors. Two files with threads on all of them wait for each other's threads, for half as much processor time again.
 */
const os = require('node:os');
const { syncBuiltinESMExports } = require('node:module');

const half = Math.max(1, Math.floor(os.availableParallelism() / 2));
os.availableParallelism = () => half;
syncBuiltinESMExports();
