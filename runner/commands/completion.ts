import type { Argv } from 'yargs';
import type { Command } from './command.js';

let door: Argv | undefined;

/** The script is yargs' own, and so is what it asks of this program at each word that is to be completed. */
export const command: Command = {
  builder: (yargs) => {
    door = yargs;
    return yargs.epilogue(
      'The script is for the shell that SHELL names: bash, zsh or fish. It completes "tidemark"; where that is not in your PATH, make it a function first:\n' +
        '  tidemark() { npx tidemark "$@"; }; source <(npx tidemark completion)',
    );
  },
  handler: () => {
    door?.showCompletionScript();
  },
};
