/** Where a chat template comes from that is not the tokenizer's own, for a base model that is to learn it: a file, or another tokenizer. */
import { existsSync } from 'node:fs';
import { resolveModel } from '../data/hub';
import { UserError } from '../errors';
import { isFolder, readText } from '../files';
import { isObject, showValue } from '../json';
import type { AddedToken } from './added-tokens';
import { settleSpecialTokens } from './special-tokens';
import { readTokenizerFiles } from './tokenizer-files';
import { makeVocabulary } from './vocabulary';

/** What is taken of another tokenizer. */
export interface TemplateSource {
  readonly template: string;
  /** The token that ends its texts. */
  readonly eosToken: string;
  /** Those that it was given beside its vocabulary, in the order of their ids: its template may write any of them. */
  readonly addedTokens: readonly AddedToken[];
}

/**
 * Reads what TRL's `clone_chat_template` takes.
 * @param dirOrId the other tokenizer's folder or Hub id
 * @throws UserError when there is no tokenizer or no template
 */
export async function readTemplateSource(dirOrId: string): Promise<TemplateSource> {
  const directory = await folderOf(dirOrId);
  const files = readTokenizerFiles(directory, { missing: 'add' });
  const template = defaultTemplate(files.chatTemplate);
  if (template === undefined)
    throw new UserError(`The tokenizer of ${dirOrId} has no chat template to take; name another, or a file with a Jinja template.`);
  const { eosToken } = settleSpecialTokens(files, makeVocabulary(files), directory);
  const addedTokens = [...files.tokenizerJson.added_tokens].sort((a, b) => a.id - b.id);
  return { template, eosToken, addedTokens };
}

async function folderOf(dirOrId: string): Promise<string> {
  try {
    return await resolveModel(dirOrId, { files: 'tokenizer' });
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`The chat template of ${dirOrId}, which is no folder here, cannot be had: ${error.message}`, { cause: error });
  }
}

/**
 * Whether `chat_template_path` names a file with a template, and not another tokenizer's folder or Hub id: what ends in .jinja or .j2, as in
 * TRL, or is a file.
 */
export function isTemplateFile(name: string): boolean {
  return /\.(?:jinja|j2)$/.test(name) || (existsSync(name) && !isFolder(name));
}

/** Reads a file with a template. @throws UserError when there is none */
export function readTemplateFile(name: string): string {
  if (isTemplateFile(name)) return readText(name);
  throw new UserError(
    `chat_template_path is ${showValue(name)}, which is no file with a Jinja template; the template of another model is taken as this one is loaded: ` +
      `loadModel(…, { chatTemplateFrom: ${showValue(name)} }).`,
  );
}

/** A checkpoint may have several, by name; the one for conversations without tools counts, as in TRL. */
function defaultTemplate(chatTemplate: unknown): string | undefined {
  const entries: readonly unknown[] = Array.isArray(chatTemplate) ? chatTemplate : [{ name: 'default', template: chatTemplate }];
  const found = entries.find((entry) => isObject(entry) && entry.name === 'default');
  return isObject(found) && typeof found.template === 'string' && found.template !== '' ? found.template : undefined;
}
