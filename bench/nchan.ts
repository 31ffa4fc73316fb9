// nchan, a module of nginx: Debian's, unpacked into .cache. It needs no root, and installs nothing.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { here } from './tools.js';

const FOLDER = here('.cache/nchan');
const PROGRAM = `${FOLDER}/usr/sbin/nginx`;
// Where Debian has the module put messages that are long, which takes root, and no directive changes it; and a place in
// the folder that nginx is started in, by a name as long.
const MESSAGES = ['/var/lib/nginx/body', 'nchan-messages-body'] as const;
const MODULE = `${FOLDER}/usr/lib/nginx/modules/ngx_nchan_module.so`;

/** The server and its module, fetched at first; `undefined` on a system that is not Debian's, or has no network. */
export function findNchan(): { program: string; module: string } | undefined {
  if (!existsSync(MODULE)) unpack();
  return existsSync(MODULE) && succeeds(PROGRAM, ['-v']) ? { program: PROGRAM, module: MODULE } : undefined;
}

function unpack(): void {
  mkdirSync(FOLDER, { recursive: true });
  console.error('bench: unpacking nginx and libnginx-mod-nchan (apt-get download)');
  // As root, apt would become a user who need not be allowed to look into this folder.
  const options = ['-o', 'APT::Sandbox::User=root', '-o', `Dir::Cache=${FOLDER}`];
  succeeds('apt-get', [...options, 'download', 'nginx', 'libnginx-mod-nchan']);
  for (const file of readdirSync(FOLDER)) {
    if (file.endsWith('.deb')) succeeds('dpkg-deb', ['-x', file, '.']);
  }
  if (!existsSync(MODULE)) return;
  const bytes = readFileSync(MODULE);
  const [theirs, ours] = MESSAGES;
  for (let at = bytes.indexOf(theirs); at !== -1; at = bytes.indexOf(theirs)) bytes.write(ours, at, 'latin1');
  writeFileSync(MODULE, bytes);
}

function succeeds(file: string, args: string[]): boolean {
  return spawnSync(file, args, { cwd: FOLDER, stdio: 'ignore' }).status === 0;
}
