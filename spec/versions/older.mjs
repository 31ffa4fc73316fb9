// A node of an older version, as a process: `node older.mjs <folder of its package> <port of Redis>`. It is plain JavaScript,
// because tsx would resolve the name of the package to lib/.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createClient } from 'redis';
import { actionsOf } from './actions.mjs';

const [folder, port] = process.argv.slice(2);

// A package can require itself by its name.
const require = createRequire(join(folder, 'package.json'));
const { comet } = require('express-comet');
const { redis } = require('express-comet/redis');

const client = createClient({ url: `redis://127.0.0.1:${port}` });
const push = comet({ node: 'older', backplane: redis({ client, lease: 6000 }), deadline: 5000 });
const actions = actionsOf(push);
const server = createServer(push).listen(0, '127.0.0.1');
await once(server, 'listening');

process.on('message', async ({ id, action, args }) => {
  try {
    process.send({ id, value: await actions[action](...args) });
  } catch (error) {
    process.send({ id, error: String(error) });
  }
});
// The process ends by itself once its hub is closed; where the tests are aborted, its hub is not.
process.on('disconnect', () => {
  server.close();
  void push.close({ drain: 1 });
});
process.send({ port: server.address().port });
