/** What a dataset is made of. Plain records, so that a row reads in a notebook as it does in its file. */

/** One turn of a conversation, in the words of chat templates. */
export interface ChatMessage {
  /** Usually `system`, `user`, `assistant` or `tool`. */
  role: string;
  /** What is said; null where the message does nothing but call tools. */
  content: string | null;
  /** Whatever else the file has of the message, for the chat template: `reasoning_content`, `tool_calls`, `name`, ... */
  [field: string]: unknown;
}

/** Columns of a row that training does not use (an id, a category, ...), kept for `filter` and `map`. */
export interface RowExtras {
  readonly extras?: Readonly<Record<string, unknown>>;
}

/** A row of the Stanford Alpaca format; `input` is empty where the instruction needs no context. */
export interface AlpacaExample extends RowExtras {
  instruction: string;
  input?: string;
  output: string;
}

/** A prompt used as it is, and the completion to learn. */
export interface PromptCompletionExample extends RowExtras {
  prompt: string;
  completion: string;
}

/** What the chat template of a conversation is given beside its messages. */
export interface ChatTemplateInputs {
  /** The tools that the model may call, each a JSON schema. */
  readonly tools?: ReadonlyArray<Readonly<Record<string, unknown>>>;
  /** Further variables of the template, such as `enable_thinking`. */
  readonly chatTemplateKwargs?: Readonly<Record<string, unknown>>;
}

/** A conversation; ShareGPT files and prompt/completion rows made of messages become this too. */
export interface MessagesExample extends RowExtras, ChatTemplateInputs {
  messages: ChatMessage[];
  /** How many of the messages are the prompt; all but the last assistant turn where it is not said. */
  promptLength?: number;
}

/** Plain text: every token is learned. */
export interface TextExample extends RowExtras {
  text: string;
}

/** A row to train or evaluate on. Tell the kinds apart with `formatOf` or by their fields. */
export type Example = AlpacaExample | PromptCompletionExample | MessagesExample | TextExample;

/** The kinds of rows. */
export type ExampleFormat = 'alpaca' | 'prompt_completion' | 'messages' | 'text';

/** What a file may hold: the kinds of rows, and `sharegpt`, which is read as `messages`. */
export type FileFormat = ExampleFormat | 'sharegpt';

/** The record type of each kind of row. */
export interface ExampleOf {
  alpaca: AlpacaExample;
  prompt_completion: PromptCompletionExample;
  messages: MessagesExample;
  text: TextExample;
}

/** Which kind of row this is, told by its fields. */
export function formatOf(example: Example): ExampleFormat {
  if ('messages' in example) return 'messages';
  if ('prompt' in example) return 'prompt_completion';
  if ('instruction' in example) return 'alpaca';
  return 'text';
}
