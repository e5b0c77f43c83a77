/** The contracts of text: what a tokenizer can do, and what an example looks like once it is token ids. */
import type { ChatMessage, ChatTemplateInputs, Example } from '../data/types';

export type { ChatMessage, Example } from '../data/types';

export interface EncodeOptions {
  /** Add what the tokenizer itself puts around a text (BOS for Llama and OPT). Default false. */
  addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leave out EOS, PAD and their like. Default true. */
  skipSpecialTokens?: boolean;
}

export interface ChatTemplateOptions extends ChatTemplateInputs {
  /** End with the opening of an assistant turn, so that a model answers. Default false. */
  addGenerationPrompt?: boolean;
  /** A Jinja template to use in place of the tokenizer's own. */
  chatTemplate?: string;
  /**
   * Write it as a conversation is learned whose assistant turns alone carry loss, as TRL does: of some templates (Qwen3, DeepSeek-R1's
   * distilled ones) with the reasoning of earlier turns, too. Default false.
   */
  assistantOnly?: boolean;
  /** The time that a template's `strftime_now` tells. Default: the present. */
  now?: Date;
}

export interface EncodeChatOptions extends ChatTemplateOptions {
  /** Of which turns the tokens are marked: all that the assistant says, as the template tells it, or the whole of its last turn. Default all. */
  turns?: 'all' | 'last';
}

/** A conversation as token ids. */
export interface EncodedChat {
  readonly ids: number[];
  /**
   * 1 for the tokens of what the assistant says: what the template's `{% generation %}` blocks wrote; where it has none, and of
   * the last turn alone, turns from behind their openings.
   */
  readonly assistant: Uint8Array;
  /** False where a token may lie across the border of a turn, since the tokenizer does not let its tokens be found in the text. */
  readonly exact: boolean;
}

/** A tokenizer with its special tokens settled. */
export interface Tokenizer {
  /** The token ids of a text. Without special tokens around it, unless `addSpecialTokens` asks for them. */
  encode(text: string, options?: EncodeOptions): number[];
  /** The text of token ids. Without special tokens, unless `skipSpecialTokens: false` asks for them; ids outside the vocabulary stand for nothing. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** The text of one token, special or not, for showing tokens one by one. */
  tokenText(id: number): string;
  /** @throws UserError when the tokenizer has no chat template and none is given, or the template refuses the messages */
  applyChatTemplate(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
  /**
   * The token ids of a conversation, and which of them the template wrote as an assistant's.
   * @throws UserError as applyChatTemplate does, and where the template changes what the assistant says beyond recognition
   */
  encodeChat(messages: readonly ChatMessage[], options?: EncodeChatOptions): EncodedChat;
  readonly hasChatTemplate: boolean;
  /** Makes a Jinja template the tokenizer's own from now on, wherever conversations are written and in what is saved and exported. */
  useChatTemplate(template: string): void;
  /** One more than the largest id that the tokenizer produces; a checkpoint's embedding may have more rows. */
  readonly vocabSize: number;
  /** The token that ends a text, by id and by name. */
  readonly eosId: number;
  readonly eosToken: string;
  /** Every id at which generation ends: `eosId` first, then others that generation_config.json names. */
  readonly stopIds: readonly number[];
  readonly bosId?: number;
  /** Never trained on; equal to `eosId` where the model has no PAD of its own. */
  readonly padId: number;
  /** What was settled, for the caller to say once: "No PAD token; EOS ... stands in for it and is ...". */
  readonly notes: readonly string[];
  /** The folder or Hub id of another tokenizer that its chat template was taken of, if it was. */
  readonly templateFrom?: string;
  /** Ids of the tokens that were added with that template, and of those that fill the vocabulary up. */
  readonly addedIds?: readonly number[];
  /** The tokenizer's files by name, as they were when it was loaded, but for what was changed of it since; written when a model is saved. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** tokenizer.json and tokenizer_config.json of which transformers.js, which reads no others, makes the same tokenizer, chat template included. */
  filesForTransformersJs(): ReadonlyMap<string, Uint8Array>;
  /** The local folder that it was loaded from. */
  readonly directory: string;
}

/** An example as token ids. */
export interface TokenizedExample {
  readonly inputIds: Int32Array;
  /** 1 where the token is a target of the loss, else 0; same length as `inputIds`. */
  readonly lossMask: Uint8Array;
  /** True where `maxLength` cut tokens off the end. */
  readonly truncated: boolean;
  /** Tokens before truncation. */
  readonly fullLength: number;
  /** True where the tokenized prompt is not how the tokenized whole begins (a token spans the boundary). */
  readonly boundaryMismatch: boolean;
}

/** Makes the prompt and the completion of an example; the way to use a template of one's own. */
export type PromptTemplate = (example: Example) => { prompt: string; completion: string };

export interface TokenizeOptions {
  /** Tokens beyond this many are cut off the end; no limit when left out. */
  maxLength?: number;
  /**
   * Only the completion carries loss; for conversations that is the last assistant turn. Default as in TRL: true where rows
   * have a prompt and a completion (Alpaca rows do), false for conversations; plain text always carries loss whole.
   */
  completionOnlyLoss?: boolean;
  /**
   * Every assistant turn of a conversation carries loss, and nothing else does. What of a turn does so, the template says with
   * `{% generation %}` blocks; where it has none, all that it writes of the turn behind its opening, or what TRL takes where it knows the
   * template (`assistantOnly` of `applyChatTemplate`). Of a row with a prompt
   * and a completion of its own, only turns of the completion do, unless `completionOnlyLoss` is false. Default false.
   */
  assistantOnlyLoss?: boolean;
  /** Replaces the built-in formatting of rows; default: the Alpaca template for Alpaca rows, other rows as they are. */
  template?: PromptTemplate;
  /** A Jinja chat template in place of the tokenizer's own. */
  chatTemplate?: string;
}
