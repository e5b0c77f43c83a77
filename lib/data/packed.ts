/** Texts that are compressed with gzip. */
import { constants } from 'node:buffer';
import { gunzipSync } from 'node:zlib';
import { messageOf, UserError } from '../errors';
import { readBytes, readStart, statusOf } from '../files';
import { decodeUtf8 } from '../utf8';

/** How such a file begins. */
const MAGIC = Buffer.from([0x1f, 0x8b]);

export function isPacked(file: string): boolean {
  // what a pipe gives can be read only once
  return statusOf(file)?.isFile() === true && readStart(file, MAGIC.length).equals(MAGIC);
}

/** The text in a file. @throws UserError when it is broken, no UTF-8, or longer than a text can be */
export function readPacked(file: string): string {
  const packed = readBytes(file);
  try {
    return decodeUtf8(gunzipSync(packed, { maxOutputLength: constants.MAX_STRING_LENGTH }), file).replace(/^\ufeff/, '');
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${file} cannot be unpacked (${messageOf(error)}); unpack it yourself, or get it again.`, { cause: error });
  }
}
