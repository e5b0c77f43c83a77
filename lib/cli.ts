#!/usr/bin/env node
/** The command line: `tunebook VERB --flag value ...`. */
import { main } from './cli/main';

void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
