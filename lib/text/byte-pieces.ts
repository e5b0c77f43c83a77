/**
 * Bytes that a vocabulary has as tokens of their own, `<0x0A>`, in what is decoded: as the tokenizers library in Rust reads them. A row of them
 * that is no UTF-8 becomes as many replacement characters as it has bytes, and a byte order mark stays.
 */

/** A step of the package's decoder. */
interface Step {
  config?: { type?: string };
  /** Of a sequence. */
  decoders?: readonly Step[];
  decode_chain(tokens: readonly string[]): string[];
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @param backend a PreTrainedTokenizer of transformers.js, which is changed */
export function mendBytePieces(backend: object): void {
  const { decoder } = (backend as { _tokenizer?: { decoder?: Step | null } })._tokenizer ?? {};
  for (const step of [decoder, ...(decoder?.decoders ?? [])]) if (step?.config?.type === 'ByteFallback') step.decode_chain = joinBytes;
}

function joinBytes(tokens: readonly string[]): string[] {
  const joined: string[] = [];
  let row: number[] = [];
  const end = (): void => {
    if (row.length > 0) joined.push(textOf(row));
    row = [];
  };
  for (const token of tokens) {
    const byte = byteOf(token);
    if (byte !== undefined) row.push(byte);
    else {
      end();
      joined.push(token);
    }
  }
  end();
  return joined;
}

/** The byte that a token of such a vocabulary stands for; nothing where it is another token. */
export function byteOf(token: string): number | undefined {
  const digits = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

function textOf(bytes: readonly number[]): string {
  try {
    return UTF8.decode(Uint8Array.from(bytes));
  } catch {
    return '\ufffd'.repeat(bytes.length);
  }
}
