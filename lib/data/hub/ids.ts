/** What names of repositories and revisions may be, so that none leads anywhere else. */
import { UserError } from '../../errors';

/** Whether this may be the name of a repository on the Hub. */
export function isId(id: string): boolean {
  const part = '[A-Za-z0-9](?:[\\w.-]{0,94}[A-Za-z0-9_])?';
  return new RegExp(`^(?:${part}/)?${part}$`).test(id) && !/--|\.\./.test(id);
}

/** @throws UserError when it can be no branch, tag or commit */
export function checkRevision(revision: string): void {
  if (!/^[A-Za-z0-9][\w./-]*$/.test(revision) || revision.includes('..'))
    throw new UserError(`${JSON.stringify(revision)} is no revision; give a branch, a tag or a commit.`);
}
