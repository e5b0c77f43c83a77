/**
 * An error that the user can mend: one sentence with the value, the place and the remedy.
 * The command line prints its message alone and exits with 1; anything else is shown with its stack.
 */
export class UserError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'UserError';
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The system's code of a failed call (`ENOENT`, `ENOSPC`, ...), or undefined. */
export function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** What `make` gives. @throws UserError with the place before what it says */
export function atPlace<T>(place: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw error instanceof UserError ? new UserError(`${place}: ${error.message}`, { cause: error }) : error;
  }
}
