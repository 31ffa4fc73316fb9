import { readFile } from 'node:fs/promises';

/** The command by which docs/cluster.md makes a user of Redis, `comet` with the password `secret`, word for word. */
export async function documentedUser(): Promise<string[]> {
  const page = await readFile('docs/cluster.md', 'utf8');
  const [acl = ''] = /ACL SETUSER[^`]*/.exec(page) ?? [];
  return acl.trim().split(/\s+/);
}
