/** Progress of one file's download. */
export interface DownloadProgress {
  readonly file: string;
  /** Bytes present so far, including those of an earlier, interrupted run. */
  readonly loaded: number;
  readonly total: number;
  /** Bytes over all the files of this call. */
  readonly totalLoaded: number;
  readonly totalSize: number;
}

export interface ResolveOptions {
  /** Branch, tag or commit of a Hub repository. Default `main`. */
  revision?: string;
  /** Which files are wanted; default `model`: configuration, tokenizer and safetensors weights. `tokenizer` leaves out the weights. */
  files?: 'model' | 'tokenizer';
  onProgress?: (progress: DownloadProgress) => void;
}

/** The local folder of a model: the folder itself, or the snapshot of a Hub repository, downloaded into the Hugging Face cache where it is missing. */
export async function resolveModel(_dirOrId: string, _options: ResolveOptions = {}): Promise<string> {
  throw new Error('not there yet');
}
