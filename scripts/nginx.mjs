// The nginx of the tests.

import { findServer, unpackServer } from './debian.mjs';

const NGINX = {
  names: ['nginx'],
  variable: 'NGINX_PATH',
  packages: ['nginx'],
  program: 'usr/sbin/nginx',
  folder: 'nginx',
  remedy: 'install nginx',
};

export const findNginx = (env = process.env) => findServer(NGINX, env);
export const unpackNginx = () => unpackServer(NGINX);
