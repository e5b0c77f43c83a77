/** `tunebook chat`: a conversation, a message a line; at a terminal, or with messages from a file. */
import { createInterface, type Interface } from 'node:readline';
import type { ChatMessage } from '../data';
import { UserError } from '../errors';
import { type CausalLM, type GenerateOptions, type Prompt, streamText } from '../model';
import { alpacaPrompt } from '../text';
import { loadModelOn } from './device';
import { readFlags, splitWords } from './flags';
import { noteUnusedDrawing } from './generate';
import type { Output } from './output';
import { chatFlags, type VerbResult } from './verbs';

const COMMAND = 'tunebook chat';

/** Lines that are no messages. */
const NEW = '/new';
const EXIT = '/exit';
const HELP = '/help';
const COMMANDS = `${NEW} begins anew, ${EXIT} or Ctrl-D ends, Ctrl-C ends an answer, ${HELP} shows this`;

export async function run(words: readonly string[], output: Output): Promise<VerbResult> {
  const flags = readFlags(splitWords(words, COMMAND), chatFlags, COMMAND);
  noteUnusedDrawing(flags, output);
  const model = await loadModelOn(flags);
  const { hasChatTemplate } = model.tokenizer;
  const template = flags.template === 'auto' ? (hasChatTemplate ? 'chat' : 'alpaca') : flags.template;
  if (flags.system !== null && template !== 'chat')
    throw new UserError(`--system ${JSON.stringify(flags.system)} has no place in the template ${template}; leave it out.`);
  const conversation = new Conversation(model, template, flags.system, {
    temperature: flags.temperature,
    topK: flags.top_k ?? undefined,
    topP: flags.top_p ?? undefined,
    repetitionPenalty: flags.repetition_penalty,
    seed: flags.seed ?? undefined,
    maxNewTokens: flags.max_new_tokens,
  });
  const memory = template === 'chat' ? '' : ', so each message stands by itself';
  output.note(`Messages are written by the template ${template}${memory}. ${COMMANDS}.`);
  await converse(conversation, output);
  return { json: { template, messages: conversation.messages }, text: '' };
}

/** Answers each line until there are no more. */
async function converse(conversation: Conversation, output: Output): Promise<void> {
  const stream = output.json ? process.stderr : process.stdout;
  const isTerminal = process.stdin.isTTY === true;
  const lines = createInterface({ input: process.stdin, ...(isTerminal && { output: stream }), prompt: '> ' });
  let answering = false;
  let stopped = false;
  lines.on('SIGINT', () => {
    if (answering) stopped = true;
    else lines.close();
  });
  for await (const line of prompted(lines, isTerminal ? stream : undefined)) {
    const message = line.trim();
    if (message === EXIT) break;
    if (message === NEW) conversation.begin();
    const explained = explain(line);
    if (explained !== undefined) output.note(explained);
    if (message === NEW || message === '' || explained !== undefined) continue;
    [answering, stopped] = [true, false];
    try {
      for await (const piece of conversation.answer(message)) {
        stream.write(piece);
        if (stopped) break;
      }
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      output.note(`${error.message} (${NEW} begins a new conversation.)`);
    }
    stream.write('\n');
    answering = false;
  }
  lines.close();
}

/** What is answered to a line that asks for help, or is a command that there is not. */
function explain(line: string): string | undefined {
  const word = line.trimEnd();
  if (word === HELP) return `${COMMANDS}.`;
  if (word === NEW || !/^\/[a-z]+$/i.test(word)) return undefined;
  return `${word} is no command: ${COMMANDS}. A message of this one word begins with a space.`;
}

/** The lines, each asked for at a terminal, as long as more can come: the end may be typed while an answer is written. */
async function* prompted(lines: Interface, terminal?: NodeJS.WriteStream): AsyncGenerator<string, void, void> {
  let isOpen = true;
  lines.once('close', () => {
    isOpen = false;
  });
  const ask = (): boolean => {
    const asks = terminal !== undefined && isOpen;
    if (asks) lines.prompt();
    return asks;
  };
  let asked = ask();
  for await (const line of lines) {
    yield line;
    asked = ask();
  }
  // what comes next is not to stand behind the prompt
  if (asked) terminal?.write('\n');
}

/** Messages so far, and how the next answer comes about. */
class Conversation {
  messages: ChatMessage[] = [];

  /** @throws UserError when the template cannot write a conversation, or not with that system message */
  constructor(
    private readonly model: CausalLM,
    private readonly template: string,
    private readonly system: string | null,
    private readonly options: GenerateOptions & { maxNewTokens: number },
  ) {
    this.begin();
    // what the template cannot write at all is told now, not at each message
    this.prompt([...this.messages, { role: 'user', content: 'Hello.' }]);
  }

  /** Forgets what was said. */
  begin(): void {
    this.messages = this.system === null ? [] : [{ role: 'system', content: this.system }];
  }

  /** Says something, and gives out the answer as it comes. What is given out is what was answered; a message that fails is as if never said. */
  async *answer(message: string): AsyncGenerator<string, void, void> {
    const before = this.messages;
    this.messages = [...before, { role: 'user', content: message }];
    let text = '';
    try {
      const prompt = this.prompt(this.messages);
      for await (const piece of streamText(this.model, prompt, { ...this.options, maxNewTokens: this.room(prompt) })) {
        text += piece;
        yield piece;
      }
    } catch (error) {
      this.messages = before;
      throw error;
    } finally {
      if (this.messages !== before) this.messages.push({ role: 'assistant', content: text });
    }
  }

  private prompt(messages: readonly ChatMessage[]): readonly number[] {
    const { tokenizer } = this.model;
    if (this.template === 'chat') return tokenizer.encode(tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true }));
    const message = messages.at(-1)?.content ?? '';
    return tokenizer.encode(this.template === 'alpaca' ? alpacaPrompt({ instruction: message }) : message, { addSpecialTokens: true });
  }

  /** Tokens that an answer may have: fewer where the model cannot read more. */
  private room(prompt: Prompt): number {
    const left = this.model.config.positionLimit - prompt.length + 1;
    return Math.max(1, Math.min(this.options.maxNewTokens, left));
  }
}
