/** Embedding and output head for a vocabulary of another size, as transformers' `resize_token_embeddings` makes them. */
import { createRandom } from '../random';
import { ConfigReader } from './config';

const HEADS = 'lm_head|embed_out';
const EMBEDDINGS = 'embed_tokens|embed_in|word_embeddings|wte';
/** Names of the modules that have a row for each token. */
export const TABLES = `${EMBEDDINGS}|${HEADS}`;
/** What the output head adds to logits, where it has that. */
const HEAD_BIAS = new RegExp(`^(?:${HEADS})\\.bias$`);
/** Names of the output head's matrix. */
export const HEAD_NAME = new RegExp(`^(?:${HEADS})\\.weight$`);
/** Names of the table that tokens are looked up in. */
export const EMBEDDING_NAME = new RegExp(`(?:^|\\.)(?:${EMBEDDINGS})\\.weight$`);

/** Names of a table in which layers look tokens up, too (Gemma 4). */
const PER_LAYER_NAME = /(?:^|\.)embed_tokens_per_layer\.weight$/;

/** Whether a parameter has a row, or a number, for each token. */
export function isVocabularyTable(name: string): boolean {
  return [HEAD_NAME, EMBEDDING_NAME, HEAD_BIAS, PER_LAYER_NAME].some((pattern) => pattern.test(name));
}

/** The configuration of the same model with so many rows. The token whose row is not trained stays the same one, as long as it has a row. */
export function withRows(reader: ConfigReader, rows: number): ConfigReader {
  const before = reader.count('vocab_size');
  const { pad_token_id: pad } = reader.raw;
  // below zero it is counted from the end
  const id = typeof pad === 'number' && pad < 0 ? before + pad : pad;
  const kept = typeof id === 'number' && id >= rows ? null : id;
  const changes = {
    vocab_size: rows,
    ...('vocab_size_per_layer_input' in reader.raw && { vocab_size_per_layer_input: rows }),
    ...('pad_token_id' in reader.raw && { pad_token_id: kept }),
  };
  return new ConfigReader({ ...reader.raw, ...(before !== rows && changes) }, reader.place);
}

/** How little the new rows differ: transformers scales the rows' covariance by it. */
const SPREAD = 1e-9;
/** How many rows a new one is mixed of. */
const MIXED = 256;

/**
 * A table with more or fewer rows at its end: those that stay keep their values. New rows are the mean of the old ones plus a little noise with
 * their covariance, since the logits of new tokens are then about as high as those of old ones are on average, and so little probability goes
 * over to them (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models",
 * https://nlp.stanford.edu/~johnhew/vocab-expansion.html). transformers draws them from N(μ, 10⁻⁹ Σ), for which it factors Σ. Here each is
 *
 *     μ + √(10⁻⁹ / K) · Σ_k ± (x_k − μ)     over K = 256 rows x_k and signs drawn by chance,
 *
 * which has that mean and covariance and is about normal, for K features' work a row, whatever the size of the table. The seed is the same
 * in each run: a run that is resumed, and an adapter that is loaded again, begin with the same rows. A bias, for which transformers' noise is
 * less than float32 can tell, gets the mean.
 * @param values [old rows, features]; given back where the size stays
 * @param shape [rows, features], or of a bias [rows]
 */
export function resizeTable(values: Float32Array, shape: readonly number[]): Float32Array {
  const [rows, features = 1] = shape;
  const isBias = shape.length === 1;
  const old = values.length / features;
  if (rows === old) return values;
  if (rows < old) return values.slice(0, rows * features);
  const table = new Float32Array(rows * features);
  table.set(values);
  const mean = meanRow(values, features);
  const random = createRandom(0);
  const scale = isBias ? 0 : Math.sqrt(SPREAD / MIXED);
  const noise = new Float64Array(features);
  for (let row = old; row < rows; row++) {
    noise.fill(0);
    for (let k = 0; k < MIXED; k++) {
      const from = random.int(old) * features;
      const sign = random.int(2) === 0 ? 1 : -1;
      for (let i = 0; i < features; i++) noise[i] += sign * (values[from + i] - mean[i]);
    }
    for (let i = 0; i < features; i++) table[row * features + i] = mean[i] + scale * noise[i];
  }
  return table;
}

function meanRow(values: Float32Array, features: number): Float64Array {
  const mean = new Float64Array(features);
  for (let at = 0; at < values.length; at += features) for (let i = 0; i < features; i++) mean[i] += values[at + i];
  const rows = values.length / features;
  return mean.map((sum) => sum / rows);
}
