/**
 * Which tokens begin, end and pad a text. Checkpoints say so in up to four files that do not always agree; here it is
 * settled once: the tokenizer's own files come first, then the model's configuration, and what had to be chosen is said.
 */
import { UserError } from '../errors';

export interface SpecialTokens {
  readonly eosToken: string;
  readonly eosId: number;
  readonly stopIds: readonly number[];
  readonly bosToken?: string;
  readonly bosId?: number;
  readonly padToken: string;
  readonly padId: number;
  readonly notes: readonly string[];
}

/** The files that name special tokens, each as its JSON object; an absent file is an empty object. */
export interface SpecialTokenSources {
  readonly tokenizerConfig: Readonly<Record<string, unknown>>;
  readonly specialTokensMap: Readonly<Record<string, unknown>>;
  readonly config: Readonly<Record<string, unknown>>;
  readonly generationConfig: Readonly<Record<string, unknown>>;
}

/** A vocabulary as far as settling needs it. */
export interface Vocabulary {
  idOf(token: string): number | undefined;
  tokenOf(id: number): string | undefined;
}

const PAD_NAMES = ['<pad>', '[PAD]', '<|pad|>', '<|padding|>', '<|finetune_right_pad_id|>', '<PAD>'];

/** @throws UserError when no file names an EOS token that the vocabulary has; `place` is the folder, for the message */
export function settleSpecialTokens(sources: SpecialTokenSources, vocabulary: Vocabulary, place: string): SpecialTokens {
  const notes: string[] = [];
  const named = (kind: string): { token: string; id: number } | undefined => {
    for (const source of [sources.tokenizerConfig, sources.specialTokensMap]) {
      const token = tokenContent(source[`${kind}_token`]);
      if (token === undefined) continue;
      const id = vocabulary.idOf(token);
      if (id !== undefined) return { token, id };
      notes.push(`The ${kind.toUpperCase()} token ${JSON.stringify(token)} that ${place} names is not in its vocabulary and is ignored.`);
    }
    for (const source of [sources.generationConfig, sources.config]) {
      for (const id of tokenIds(source[`${kind}_token_id`])) {
        const token = vocabulary.tokenOf(id);
        if (token !== undefined) return { token, id };
      }
    }
    return undefined;
  };
  const eos = named('eos');
  if (!eos) {
    throw new UserError(
      `${place} names no EOS token, so a model could not learn where an answer ends; add "eos_token" to its tokenizer_config.json.`,
    );
  }
  const bos = named('bos');
  const pad = named('pad') ?? choosePad(vocabulary, eos, notes);
  const stops = [eos.id, ...tokenIds(sources.generationConfig.eos_token_id), ...tokenIds(sources.config.eos_token_id)];
  return {
    eosToken: eos.token,
    eosId: eos.id,
    stopIds: [...new Set(stops)],
    bosToken: bos?.token,
    bosId: bos?.id,
    padToken: pad.token,
    padId: pad.id,
    notes,
  };
}

function choosePad(vocabulary: Vocabulary, eos: { token: string; id: number }, notes: string[]): { token: string; id: number } {
  for (const token of PAD_NAMES) {
    const id = vocabulary.idOf(token);
    if (id === undefined) continue;
    notes.push(`No PAD token is named; ${token} (id ${id}) of the vocabulary is used, and padding is never trained on.`);
    return { token, id };
  }
  notes.push(`No PAD token is named; EOS ${eos.token} (id ${eos.id}) stands in for it, and padding is never trained on.`);
  return eos;
}

/** The text of a token that a file gives as a string or as an object with `content`. */
export function tokenContent(value: unknown): string | undefined {
  const content = typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value;
  return typeof content === 'string' && content !== '' ? content : undefined;
}

function tokenIds(value: unknown): number[] {
  return (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isInteger(id) && id >= 0);
}
