/** From examples to token ids. */
export { tokenizeExample } from './examples';
export { loadTokenizer } from './tokenizer';
export * from './types';
