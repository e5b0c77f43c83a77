/** Notices when the graph cache does not help: when the same computation is compiled again and again for other sizes. */
import type { Cut } from './program';

/** Runs looked back upon, and how many compilations of one structure among them are too many. */
const WINDOW = 200;
const TOO_MANY = 32;

/** Says so once; not at all if the environment has TUNEBOOK_COMPILE_WARNING=0. */
export class CompilationWatch {
  /** The structures compiled in the last runs, 0 for a run that found its graph in the cache. */
  private readonly recent = new Int32Array(WINDOW);
  private next = 0;
  private silent = process.env.TUNEBOOK_COMPILE_WARNING === '0';

  /** Called for every run, with the graph if it had to be compiled. */
  note(compiled?: Cut): void {
    const structure = compiled ? structureOf(compiled) : 0;
    this.recent[this.next] = structure;
    this.next = (this.next + 1) % WINDOW;
    if (structure === 0 || this.silent) return;
    const times = this.recent.reduce((count, other) => count + (other === structure ? 1 : 0), 0);
    if (times <= TOO_MANY) return;
    this.silent = true;
    console.warn(
      `The same computation was compiled for new tensor shapes in ${times} of the last ${WINDOW} runs, and each compilation takes time: ` +
        'keep shapes fixed, or name the sizes that vary with varyingSizes({ tokens: n }) before the computation; ' +
        'the environment variable TUNEBOOK_COMPILE_WARNING=0 silences this.',
    );
  }
}

/** A number for the sequence of kernels, whatever their sizes; never 0. */
function structureOf({ nodes }: Cut): number {
  let hash = 17;
  for (const { kernel } of nodes) {
    for (let i = 0; i < kernel.name.length; i++) hash = (Math.imul(hash, 31) + kernel.name.charCodeAt(i)) | 0;
  }
  return hash || 1;
}
