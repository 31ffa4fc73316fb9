import { isIP } from 'node:net';
import { join } from 'node:path';
import express, { type ErrorRequestHandler, type Express, type RequestHandler } from 'express';
import { type Channel, CometError } from 'express-comet';
import type { Clients } from './clients.js';
import type { Monitor } from './monitor.js';
import type { Stage } from './stage.js';

const PUBLIC = join(import.meta.dirname, 'public');
const UPLOT = join(import.meta.dirname, '..', 'node_modules', 'uplot', 'dist');

// Of the library's errors, those that the state is to blame for and not the request.
const CONFLICTS = new Set([
  'NON_UNIQUE_CHANNEL_NAME',
  'TOO_MANY_VIRTUAL_CHANNELS',
  'CHANNEL_ENDED',
  'HUB_CLOSED',
]);

/** A request of this page's that can't be met, and why. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export interface Parts {
  readonly stage: Stage;
  readonly monitor: Monitor;
  readonly clients: Clients;
  /** Destroys every connection to the server. */
  readonly cut: () => void;
  /** The name or address that the server listens on. */
  readonly host: string;
}

/** What the server answers. Whoever reaches it may do everything here. An application asks first who it is. */
export function makeApp({ stage, monitor, clients, cut, host }: Parts): Express {
  const app = express();
  app.disable('x-powered-by');

  app.use((_request, response, next) => {
    response.set({
      'Content-Security-Policy':
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
      'X-Content-Type-Options': 'nosniff',
      'Referrer-Policy': 'no-referrer',
    });
    next();
  });
  app.use(toThisHost(host));

  app.use('/monitor', monitor.hub);
  app.use('/channels', (request, response, next) => stage.push(request, response, next));

  app.use(express.static(PUBLIC));
  for (const file of ['uPlot.esm.js', 'uPlot.min.css']) {
    app.get(`/vendor/${file}`, (_request, response) => response.sendFile(file, { root: UPLOT }));
  }

  app.use(fromThisOrigin, express.json());

  const find = (id: unknown): Channel => {
    const channel = typeof id === 'string' ? stage.push.channels.find(id) : undefined;
    if (channel === undefined) throw new Refusal(404, 'UNKNOWN_CHANNEL', 'There is no such channel.');
    return channel;
  };

  app.post('/write/:chan_id', async (request, response) => {
    const { data, event } = request.body ?? {};
    const channel = find(request.params.chan_id);
    stage.announce(event);
    response.json(await channel.send(data, { event, perNode: stage.isShared }));
  });

  app.post('/create', (request, response) => {
    const { name } = request.body ?? {};
    const { id } = stage.push.channels.create(name === undefined ? {} : { name });
    response.status(201).json({ id });
  });

  app.post('/end', (request, response) => {
    find(request.body?.channel).end();
    response.json({});
  });

  app.post('/control/activate', (_request, response) => {
    stage.push.activate();
    response.json({});
  });

  app.post('/control/deactivate', (_request, response) => {
    stage.push.deactivate();
    response.json({});
  });

  app.post('/control/timeout', (request, response) => {
    const { timeout = null, reset = false } = request.body ?? {};
    stage.setTimeout(timeout, reset);
    monitor.changed();
    response.json({});
  });

  app.post('/control/close', async (request, response) => {
    const { drain } = request.body ?? {};
    await stage.push.close({ drain });
    monitor.changed();
    response.json({});
  });

  app.post('/control/reopen', (_request, response) => {
    stage.reopen();
    response.json({});
  });

  app.post('/trouble/listen', (request, response) => {
    const { channel, count } = request.body ?? {};
    if (!Number.isSafeInteger(count) || count < 1 || count > clients.room) {
      throw new Refusal(409, 'TOO_MANY_CLIENTS', `There is room for ${clients.room} clients.`);
    }
    clients.listen(find(channel).id, count);
    response.json({});
  });

  app.post('/trouble/stall', async (request, response) => {
    await clients.stall(reachable(find(request.body?.channel).id));
    response.json({});
  });

  app.post('/trouble/reset', async (request, response) => {
    const came = await clients.reset(reachable(find(request.body?.channel).id));
    if (came === undefined) throw new Refusal(409, 'NO_LISTENER', 'The client could not listen.');
    response.json(came);
  });

  app.post('/trouble/flood', async (request, response) => {
    await clients.flood(find(request.body?.channel).id);
    response.json({});
  });

  app.post('/trouble/cut', (_request, response) => {
    response.json({});
    response.once('close', cut);
  });

  app.post('/trouble/away', (_request, response) => {
    clients.sendAway();
    response.json({});
  });

  app.use(((error, _request, response, _next) => {
    const { status, code, message } = refusalOf(error);
    response.status(status).json({ error: { code, message } });
  }) satisfies ErrorRequestHandler);

  return app;

  function reachable(id: string): string {
    if (stage.push.activated) return id;
    throw new Refusal(409, 'NOT_ACTIVATED', 'The hub takes no listeners now: activate it first.');
  }
}

/**
 * The threat is DNS rebinding: a site gives its own name the address of this server. The browser then takes the site's page
 * for one of this origin, and lets it read the streams and post. No site can do so with `localhost` or with an address.
 */
function toThisHost(host: string): RequestHandler {
  const own = new Set(['localhost', host.toLowerCase()]);
  return (request, _response, next) => {
    const url = `http://${request.headers.host}`;
    const name = URL.canParse(url) ? new URL(url).hostname : undefined;
    if (name === undefined || (!own.has(name) && isIP(name.replace(/^\[|\]$/g, '')) === 0)) {
      throw new Refusal(
        421,
        'OTHER_HOST',
        'Open the demo as localhost or by an address. For another name of this machine, start it with HOST=NAME.',
      );
    }
    next();
  };
}

/**
 * Another site's page can make a browser post a form here, but not with this media type, unless this server allows it
 * to: it would be asked first, and it never says yes.
 */
const fromThisOrigin: RequestHandler = (request, _response, next) => {
  if (request.method === 'POST' && !request.is('application/json')) {
    throw new Refusal(415, 'NOT_JSON', 'Post JSON: Content-Type: application/json.');
  }
  next();
};

function refusalOf(error: unknown): { status: number; code: string; message: string } {
  if (error instanceof Refusal) return error;
  if (error instanceof CometError) {
    const { code, message } = error;
    return { status: CONFLICTS.has(code) ? 409 : 400, code, message };
  }
  // A body that is not JSON, or too large: the error says by which status.
  const { status, message } = error as { status?: number; message: string };
  if (status !== undefined && status < 500) return { status, code: 'BAD_REQUEST', message };
  console.error(error);
  return { status: 500, code: 'INTERNAL', message: 'The server failed.' };
}
