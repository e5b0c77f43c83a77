/**
 * Rows that an adapter trains of the embedding, or of the output head, while the others stay: PEFT's `trainable_token_indices`. It serves tokens
 * that a base model has not learned, at the cost in the adapter's file of these rows alone.
 *
 * The optimizer trains the rows as a matrix of their own, and before a pass they are written into the table, where everything that reads the
 * model finds them; their gradient is taken out of the table's. As in PEFT they take the place of the old rows, they are not added to them:
 * those of new tokens may begin otherwise each time that a model is given them.
 */
import * as tf from '@tensorflow/tfjs-core';
import { computeRecorded, embedding, setRows, versionsOf } from '../engine';
import { UserError } from '../errors';
import { showValue } from '../json';
import { Parameter } from './layers';
import type { ModulesToSave } from './modules-to-save';
import { HEAD, isMeant, lastPart, moduleOf, OLD_HEAD, PEFT_PREFIX } from './names';
import { HEAD_NAME } from './resize';
import type { TrainableTokens } from './token-indices';
import type { CausalLM } from './types';

/** The rows of one table. */
export class TrainedRows {
  /** Their values, [tokens, features], under their name in PEFT's files; still without them when it is made. */
  readonly values: Parameter<tf.Rank.R2>;
  private readonly places: tf.Tensor1D;
  /** Says which values are in the table. */
  private written?: unknown;

  /**
   * @param table of the model, which stays its owner
   * @param ids of the rows; of those that are there twice, as TRL may have them, the last values count, and all are trained
   */
  constructor(
    module: string,
    readonly table: tf.Variable,
    readonly ids: readonly number[],
  ) {
    const name = `${PEFT_PREFIX}${module}.token_adapter.trainable_tokens_delta`;
    this.values = new Parameter<tf.Rank.R2>(name, [ids.length, table.shape[1] as number], 'zeros');
    this.places = tf.keep(tf.tensor1d([...ids], 'int32'));
  }

  /** Gives the rows the values that they have in the table. */
  start(): void {
    const [, features] = this.values.shape;
    this.values.fill(new Float32Array(this.ids.length * features));
    tf.tidy(() => this.values.value.assign(embedding(this.table as tf.Tensor2D, this.places)));
    computeRecorded();
  }

  /** Writes them into the table where they are others than before. */
  write(): void {
    const { value } = this.values;
    // a variable has other data after each change, where nobody counts them
    const now = versionsOf([value]) ?? value.dataId;
    if (now === this.written) return;
    this.written = now;
    setRows(this.table, value as tf.Variable, this.ids);
  }

  /** Their gradient, of the table's, which is used up. */
  gradientOf(gradient: tf.Tensor): tf.Tensor {
    const rows = embedding(gradient as tf.Tensor2D, this.places);
    gradient.dispose();
    return rows;
  }

  dispose(): void {
    this.values.dispose();
    this.places.dispose();
  }
}

/** What is asked for of the modules of an adapter. */
interface Asked extends ModulesToSave {
  readonly trainableTokenIndices?: TrainableTokens;
}

/** Ids of the two tables; of a head that is the embedding only where it is to have others than that. */
interface RowsAsked {
  readonly embedding?: readonly number[];
  readonly head?: readonly number[];
}

/**
 * Makes sure that the model has the rows that are meant, and that nothing else is to train them.
 * @throws UserError when it has not, or something is
 */
export function checkTokens(model: CausalLM, asked: Asked): void {
  rowsAsked(model, asked);
}

/**
 * Gets a model ready to train rows of its tables: a head that is the embedding parts from it where only one of the two is to change.
 * @returns the rows, without values
 * @throws UserError as `checkTokens`
 */
export function rowsToTrain(model: CausalLM, asked: Asked): TrainedRows[] {
  const { embedding: ids, head } = rowsAsked(model, asked);
  if (head) model.untie();
  const table = model.embeddings[0].weight;
  const rows = ids ? [new TrainedRows(moduleOf(table.name), table.value, ids)] : [];
  const own = head && [...model.parameters].find(([name]) => HEAD_NAME.test(name))?.[1];
  return own ? [...rows, new TrainedRows(HEAD, own, head)] : rows;
}

function rowsAsked(model: CausalLM, { trainableTokenIndices: given, ensureWeightTying, modulesToSave }: Asked): RowsAsked {
  if (given === undefined) return {};
  const table = moduleOf(model.embeddings[0].weight.name);
  const asked = idsByTable(model, byModule(given, table), table);
  const tied = model.config.tieWordEmbeddings;
  const isWhole = (names: readonly string[]): boolean => names.some((name) => isMeant(name, modulesToSave));
  if (tied && asked.embedding && !asked.head && isWhole([HEAD, OLD_HEAD]))
    throw new UserError(
      `The adapter trains rows of ${lastPart(table)} (trainable token indices), which is the output head, too, so that ${HEAD} cannot be among its ` +
        'modules to save; leave it out there: the rows are trained in both.',
    );
  const withHead = [HEAD, OLD_HEAD, ...(tied && ensureWeightTying ? [table] : [])];
  const clash = (asked.embedding && isWhole([table]) && lastPart(table)) || (asked.head && isWhole(withHead) && HEAD);
  if (clash)
    throw new UserError(
      `The adapter has trainable token indices of ${clash}, and ${clash} among its modules to save, which are trained whole; name it in one of the two.`,
    );
  if (!tied || !asked.head || !asked.embedding) return asked;
  if (asked.head.join() === asked.embedding.join()) return { embedding: asked.embedding };
  if (ensureWeightTying)
    throw new UserError(
      `The adapter has other trainable token indices of ${HEAD} than of ${lastPart(table)}, but the two are to stay one (ensureWeightTying); name the same.`,
    );
  return asked;
}

/** @throws UserError when a name is that of neither table, two are that of one, or a table has no such row */
function idsByTable(model: CausalLM, lists: Readonly<Record<string, readonly number[]>>, table: string): RowsAsked {
  const names: { embedding?: string; head?: string } = {};
  for (const [module, ids] of Object.entries(lists)) {
    checkIds(model, module, ids);
    const which = table.endsWith(module) ? 'embedding' : 'head';
    if (which === 'head' && !HEAD.endsWith(module) && module !== OLD_HEAD)
      throw new UserError(
        `The trainable token indices of the adapter name ${showValue(module)}, but only ${lastPart(table)} and ${HEAD} have a row for each token.`,
      );
    const before = names[which];
    if (before !== undefined)
      throw new UserError(
        `The trainable token indices of the adapter name ${which === 'head' ? HEAD : lastPart(table)} twice, as ${showValue(before)} and as ` +
          `${showValue(module)}; give all of its ids under one of them.`,
      );
    names[which] = module;
  }
  const { embedding, head } = names;
  return { embedding: embedding === undefined ? undefined : lists[embedding], head: head === undefined ? undefined : lists[head] };
}

function byModule(given: TrainableTokens, table: string): Record<string, readonly number[]> {
  return Array.isArray(given) ? { [table]: given } : (given as Record<string, readonly number[]>);
}

function checkIds({ config: { vocabSize }, source }: CausalLM, module: string, ids: readonly number[]): void {
  const wrong = ids.find((id) => id >= vocabSize);
  if (wrong !== undefined)
    throw new UserError(
      `The trainable token indices of the adapter, of ${lastPart(module)}, hold ${wrong}, but the rows of ${source} have the ids 0 to ${vocabSize - 1}.`,
    );
}
