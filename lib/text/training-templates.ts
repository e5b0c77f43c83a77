/**
 * Templates as TRL writes conversations with where only the assistant's turns are learned. Some published templates leave the reasoning of
 * earlier turns out, which is right for asking and would be lost for learning; and TRL has settled where in them a turn begins and ends.
 * They are told by how they are written, so that those that were changed elsewhere are known, too.
 */

/** What is replaced in a template; all of it must be there. */
type Edits = ReadonlyArray<readonly [RegExp, string]>;

/** `{% generation %}`, as TRL and transformers look for it. */
const GENERATION = /\{%-?\s*generation\s*-?%\}/;

/** Whether a template says itself what of a turn is learned. */
export function hasGenerationBlocks(template: string): boolean {
  return GENERATION.test(template);
}

const CHATML_END: Edits[number] = [/(\{\{- '<\|im_end\|>\\n' \}\}\s*)(?=\{%- elif message\.role == "tool" %\})/, '$1{%- endgeneration %}'];

const KNOWN: readonly Edits[] = [
  // Qwen3 (which reasons), 3.5, 3.6 and 3.8: the reasoning of every turn is written, an empty one too
  [
    [
      /\{%- if [^%]*loop\.index0 > ns\.last_query_index\)? %\}[\s\S]*?\{\{- '<\|im_start\|>' \+ message\.role \+ '\\n(<think>\\n' \+ [\s\S]*?\}\})[\s\S]*?\{%- endif %\}(?=\s*\{%- if message\.tool_calls)/,
      "{{- '<|im_start|>' + message.role + '\\n' }}{%- generation %}{{- '$1",
    ],
    CHATML_END,
  ],
  // Qwen2.5: a turn begins with the end of the line that names who speaks
  [
    [/ or \(message\.role == "assistant" and not message\.tool_calls\)(?= %\})/, ''],
    [/(\{%- elif message\.role == "assistant" %\}\s*\{\{- '<\|im_start\|>' \+ message\.role \}\})/, '$1{%- generation %}'],
    [/\{%- if message\.content %\}(?=\s*\{\{- '\\n' \+ message\.content \}\})/, '{%- if message.content or not message.tool_calls %}'],
    CHATML_END,
  ],
  // DeepSeek-R1's distilled models: reasoning stays, and a turn begins with the sign of the assistant
  [
    [/\{% if '<\/think>' in content %\}\{% set content = content\.split\('<\/think>'\)\[-1\] %\}\{% endif %\}/, ''],
    [/(\{\{'<｜Assistant｜>' \+ content \+ '<｜end▁of▁sentence｜>'\}\})/, '{%- generation %}$1{%- endgeneration %}'],
    [/(\{\{'<｜tool▁outputs▁end｜>' \+ message\['content'\] \+ '<｜end▁of▁sentence｜>'\}\})/, '{%- generation %}$1{%- endgeneration %}'],
    [/(\{%- for tool in message\['tool_calls'\]%\}[\s\S]*?\{%- endfor %\})/, '{%- generation %}$1{%- endgeneration %}'],
  ],
];

const WRITTEN = new Map<string, string>();

/** The template that assistant turns are learned with: the same, but for those that TRL changes. */
export function trainingTemplate(template: string): string {
  const known = WRITTEN.get(template) ?? edited(template);
  WRITTEN.set(template, known);
  return known;
}

function edited(template: string): string {
  if (hasGenerationBlocks(template)) return template;
  const edits = KNOWN.find((all) => all.every(([found]) => found.test(template))) ?? [];
  return edits.reduce((text, [found, by]) => text.replace(found, by), template);
}
