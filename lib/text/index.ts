/** From examples to token ids. */

export type { AddedToken } from './added-tokens';
export { alpacaPrompt } from './alpaca';
export { checkConversation, explainNoTarget, type FormattedExample, formatExample, promptLength, tokenizeExample } from './examples';
export { tokenizerAt } from './strftime';
export { isTemplateFile, readTemplateFile } from './template-source';
export { loadTokenizer } from './tokenizer';
export * from './types';
export { showTokens, tokensHtml, tokensText } from './view';
