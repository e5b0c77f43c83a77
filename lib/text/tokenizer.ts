/** The tokenizer: that of @huggingface/transformers, built from local files alone, with its special tokens settled. */
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import { checkOptions, checkPath, type OptionNames } from '../arguments';
import { resolveModel } from '../data/hub';
import { printsAs } from '../display';
import { messageOf, UserError } from '../errors';
import { type AddedToken, tokensToAdd } from './added-tokens';
import { assistantTurns, lastAssistantTurn } from './assistant-turns';
import { byteOf, mendBytePieces } from './byte-pieces';
import { asTheyAre, withChatTemplate, withEos, withTokens, writtenJson } from './changed-files';
import { CHAT_ELSEWHERE, CHAT_OPTIONS, type ChatBackend, writeChat, writeMarkedChat } from './chat-template';
import { makeSurfaces, maskBeginnings, maskSpans } from './offsets';
import { type SpecialTokens, settleSpecialTokens, tokenContent } from './special-tokens';
import { readTemplateSource } from './template-source';
import { KINDS, readTokenizerFiles, type TokenizerFiles } from './tokenizer-files';
import type { EncodeOptions, Tokenizer } from './types';
import { type FullVocabulary, makeVocabulary } from './vocabulary';
import { rememberWords } from './word-memory';

/** The part of transformers.js' PreTrainedTokenizer that is used here. */
interface Backend extends ChatBackend {
  chat_template: unknown;
  encode(text: string, options: { add_special_tokens: boolean }): number[];
  decode(ids: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
}

/** How a tokenizer is loaded. */
export interface LoadTokenizerOptions {
  /** The token that ends a text, in the place of the one that its files name. */
  eosToken?: string;
  /**
   * A folder or Hub id with another tokenizer, whose chat template and EOS token it takes, and whatever added tokens it lacks; the vocabulary is
   * then filled up to a multiple of 64 (TRL's `clone_chat_template`).
   */
  chatTemplateFrom?: string;
  /** The folder of the model, where the tokenizer lies elsewhere, as that of an adapter does: what its configuration says of special tokens counts, too. */
  modelFolder?: string;
}

const OPTIONS: OptionNames<LoadTokenizerOptions> = { eosToken: true, chatTemplateFrom: true, modelFolder: true };

/**
 * Loads the tokenizer of a local folder or of a Hub id. A local folder is read without touching the network.
 * @throws UserError when there is no such option, no tokenizer, a file is broken, or no EOS token is named; when `eosToken` is not in the vocabulary, or the
 *   other tokenizer has no chat template
 */
export async function loadTokenizer(dirOrId: string, options: LoadTokenizerOptions = {}): Promise<Tokenizer> {
  checkPath('loadTokenizer', 'folder or Hub id', dirOrId);
  checkOptions('loadTokenizer', options, OPTIONS);
  const { eosToken, chatTemplateFrom, modelFolder } = options;
  const directory = await resolveModel(dirOrId, { files: 'tokenizer' });
  if (chatTemplateFrom !== undefined) return cloneTemplate(directory, chatTemplateFrom, options);
  const files = readTokenizerFiles(directory, { modelFolder });
  checkEos(eosToken, files, directory);
  return fromFiles(eosToken === undefined ? files : withEos(files, eosToken), directory);
}

/** @throws UserError when it is none of the tokens */
function checkEos(eosToken: string | undefined, files: TokenizerFiles, directory: string): void {
  if (eosToken === undefined || makeVocabulary(files).idOf(eosToken) !== undefined) return;
  throw new UserError(
    `The EOS token ${JSON.stringify(eosToken)} that was asked for is not in the vocabulary of ${directory}; name one that is.`,
  );
}

/**
 * With the template, the EOS token and the added tokens of another tokenizer: TRL's `clone_chat_template`.
 * @param options `eosToken`: one that was asked for beside it
 */
async function cloneTemplate(
  directory: string,
  templateFrom: string,
  { eosToken: asked, modelFolder }: LoadTokenizerOptions,
): Promise<Tokenizer> {
  const { template, eosToken, addedTokens } = await readTemplateSource(templateFrom);
  const own = readTokenizerFiles(directory, { missing: 'add', modelFolder });
  const tokens = tokensToAdd(own.tokenizerJson, makeVocabulary(own).idOf, addedTokens);
  const files = withEos(withChatTemplate(withTokens(own, tokens), template), eosToken);
  checkEos(asked, files, directory);
  const addedIds = tokens.map(({ id }) => id);
  const notes = [...noteOf(tokens, addedTokens, templateFrom), ...noteOnEos(asked, eosToken)];
  return fromFiles(files, directory, { templateFrom, addedIds, notes });
}

function noteOnEos(asked: string | undefined, taken: string): string[] {
  if (asked === undefined || asked === taken) return [];
  const [has, counts] = [asked, taken].map((token) => JSON.stringify(token));
  return [`The EOS token ${has} has no effect: that of the chat template is taken, ${counts}, as in TRL.`];
}

/** What to say of tokens that were added. @param theirs all that the other tokenizer has */
function noteOf(tokens: readonly AddedToken[], theirs: readonly AddedToken[], templateFrom: string): string[] {
  if (tokens.length === 0) return [];
  const contents = new Set(theirs.map(({ content }) => content));
  const taken = tokens.map(({ content }) => content).filter((content) => contents.has(content));
  const shown = taken.length > 6 ? `${taken.slice(0, 5).join(', ')} and ${taken.length - 5} more` : taken.join(', ');
  const fillers = tokens.length - taken.length;
  const parts = [...(taken.length > 0 ? [`${shown} of ${templateFrom}`] : []), ...(fillers > 0 ? [`${fillers} that fill it up`] : [])];
  return [`The vocabulary has new tokens with the chat template, as in TRL: ${parts.join(', and ')}.`];
}

/** Why what transformers 5 makes of the same files is not the same. */
function noteOnClass({ otherClass }: TokenizerFiles, directory: string): string[] {
  if (!otherClass?.taken) return [];
  return [
    `The class ${otherClass.name} of ${directory} lets transformers 5 cut texts otherwise than its tokenizer.json says; here, and in what is saved, tokenizer.json counts.`,
  ];
}

async function fromFiles(given: TokenizerFiles, directory: string, taken?: Taken): Promise<Tokenizer> {
  const vocabulary = makeVocabulary(given);
  const files = asTheyAre(given, (token) => vocabulary.idOf(token) !== undefined);
  const special = settleSpecialTokens(files, vocabulary, directory);
  const backend = await makeBackend(files, special, directory);
  return makeTokenizer(backend, files, { special, vocabulary, directory, taken });
}

/** What came from another tokenizer. */
type Taken = Pick<Tokenizer, 'templateFrom' | 'addedIds' | 'notes'>;

/** All that is known of a tokenizer, beside its tokenizer.json, as transformers.js has it: in one configuration. */
function configFor(files: TokenizerFiles, special: SpecialTokens): Record<string, unknown> {
  const named = ['bos_token', 'unk_token', 'sep_token', 'cls_token', 'mask_token'].map((kind) => [
    kind,
    tokenContent(files.tokenizerConfig[kind]) ?? tokenContent(files.specialTokensMap[kind]) ?? null,
  ]);
  return {
    ...files.tokenizerConfig,
    ...Object.fromEntries(named),
    // its tokens would be left out of decoded text, even those that are not special
    additional_special_tokens: undefined,
    chat_template: files.chatTemplate ?? null,
    eos_token: special.eosToken,
    pad_token: special.padToken,
  };
}

/** The special tokens of a configuration. */
function namedTokens(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const names = KINDS.map((kind) => `${kind}_token`);
  return Object.fromEntries(names.flatMap((name) => (typeof config[name] === 'string' ? [[name, config[name]]] : [])));
}

async function makeBackend(files: TokenizerFiles, special: SpecialTokens, directory: string): Promise<Backend> {
  // loaded when the first tokenizer is: the package brings its own inference engine along
  const { PreTrainedTokenizer } = await import('@huggingface/transformers');
  try {
    const backend = new PreTrainedTokenizer(files.tokenizerJson, configFor(files, special)) as unknown as Backend;
    mendBytePieces(backend as object);
    rememberWords(backend as object);
    return backend;
  } catch (error) {
    const file = path.join(directory, existsSync(path.join(directory, 'tokenizer.json')) ? 'tokenizer.json' : 'vocab.json');
    throw new UserError(
      `${file} is not a tokenizer that can be used here: ${messageOf(error)}; save it again with a current version of transformers.`,
      {
        cause: error,
      },
    );
  }
}

interface Settled {
  readonly special: SpecialTokens;
  readonly vocabulary: FullVocabulary;
  readonly directory: string;
  readonly taken?: Taken;
}

function makeTokenizer(backend: Backend, files: TokenizerFiles, { special, vocabulary, directory, taken }: Settled): Tokenizer {
  const decode = (ids: ArrayLike<number>, skip: boolean): string => {
    // a model's embedding may have more rows than the vocabulary has tokens; such ids stand for nothing
    const known = Array.from(ids).filter((id) => vocabulary.tokenOf(id) !== undefined);
    return known.length === 0 ? '' : backend.decode(known, { skip_special_tokens: skip, clean_up_tokenization_spaces: false });
  };
  let current = files;
  const chat = {
    backend,
    get hasTemplate() {
      return Boolean(current.chatTemplate);
    },
    specialTokens: namedTokens(configFor(files, special)),
    directory,
  };
  const surfaces = makeSurfaces(files.tokenizerJson, vocabulary.tokenOf);
  const encode = (text: string, options: EncodeOptions = {}): number[] => {
    checkOptions('encode', options, { addSpecialTokens: true });
    const { addSpecialTokens = false } = options;
    return text === '' && !addSpecialTokens ? [] : backend.encode(text, { add_special_tokens: addSpecialTokens });
  };
  const added = new Set(files.tokenizerJson.added_tokens.map((token) => token.id));
  const tokenText = (id: number): string => {
    const token = vocabulary.tokenOf(id);
    if (token === undefined) return `[id ${id} is outside the vocabulary]`;
    // an added token is found in a text as it is written
    return surfaces.underlines && !added.has(id) ? pieceText(token, () => decode([id], false)) : decode([id], false);
  };
  const tokenizer: Tokenizer = {
    encode,
    decode: (ids, options = {}) => {
      checkOptions('decode', options, { skipSpecialTokens: true });
      return decode(ids, options.skipSpecialTokens ?? true);
    },
    tokenText,
    applyChatTemplate: (messages, options = {}) => {
      checkOptions('applyChatTemplate', options, CHAT_OPTIONS, CHAT_ELSEWHERE);
      return writeChat(chat, messages, options);
    },
    encodeChat: (messages, given = {}) => {
      checkOptions('encodeChat', given, { ...CHAT_OPTIONS, turns: true }, CHAT_ELSEWHERE);
      const { turns, ...options } = given;
      const last = turns === 'last';
      const { text, generated } = last ? { text: writeChat(chat, messages, options) } : writeMarkedChat(chat, messages, options);
      const ids = encode(text);
      const spans = generated ?? (last ? lastAssistantTurn : assistantTurns)(chat, messages, options, text);
      const assistant = maskSpans(ids, text, spans, surfaces);
      return assistant ? { ids, assistant, exact: true } : maskBeginnings(ids, text, spans, encode);
    },
    get hasChatTemplate() {
      return chat.hasTemplate;
    },
    useChatTemplate: (template) => {
      current = withChatTemplate(current, template);
      backend.chat_template = template;
    },
    vocabSize: vocabulary.size,
    eosId: special.eosId,
    eosToken: special.eosToken,
    stopIds: special.stopIds,
    bosId: special.bosId,
    padId: special.padId,
    ...taken,
    notes: [...special.notes, ...noteOnClass(files, directory), ...(taken?.notes ?? [])],
    get files() {
      return current.files;
    },
    filesForTransformersJs: () =>
      new Map([
        ['tokenizer.json', Buffer.from(JSON.stringify(files.tokenizerJson))],
        [
          'tokenizer_config.json',
          writtenJson({
            ...configFor(current, special),
            // what is not said is true there, and spaces before marks go; as in `decode`, and in Python of BPE
            clean_up_tokenization_spaces: false,
            // only where one of both is on does its pipeline put around a text what tokenizer.json says
            add_bos_token: encode('', { addSpecialTokens: true }).length > 0,
            add_eos_token: false,
          }),
        ],
      ]),
    directory,
  };
  return printsAs(tokenizer, () => `Tokenizer: ${vocabulary.size} tokens, from ${directory}`);
}

/** SentencePiece vocabularies write a space as U+2581 and a byte as <0x0A>; their decoder would drop the leading space of a lone token. */
function pieceText(piece: string, decode: () => string): string {
  const byte = byteOf(piece);
  if (byte !== undefined) return byte < 0x80 ? String.fromCharCode(byte) : '\ufffd';
  return piece.includes('\u2581') ? piece.replaceAll('\u2581', ' ') : decode();
}
