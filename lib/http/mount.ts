import { InvalidMountError } from '../core/errors.js';
import type { Events } from '../core/events.js';
import type { Request } from '../transport/stream.js';
import { attempt, type Handler, type Next, send } from './reply.js';
import { acceptsEventStream, cut, decoded, withoutOrigin } from './target.js';

// Under `app.use('/channels', handler)` Express removes the mount path from `request.url`. Under `app.get('/events/:id',
// handler)` it does not. This module removes the path of a route as well, so that handlers read only what is below.

/** A request, with the members that Express adds. */
type Mounted = Request & {
  readonly originalUrl?: string;
  readonly baseUrl?: string;
  readonly route?: { readonly path?: unknown };
  readonly params?: Readonly<Record<string, unknown>>;
};

/** The route under which a handler runs. */
interface Route {
  readonly pattern: string;
  /** Its own parameters, without those of a router above it. */
  readonly values: ReadonlyMap<string, string>;
}

/** How a handler can be mounted. */
interface Rules {
  /** The path of `app.use()` that error messages name. */
  readonly home: string;
  /**
   * Returns the path that the handler reads under a route.
   * @throws InvalidMountError
   */
  under(route: Route, path: string): string;
  /**
   * Whether the handler takes a request at the root of the application. Otherwise it passes the request on.
   * @throws InvalidMountError
   */
  takesAtRoot(request: Request, path: string): boolean;
}

// `:id`, `:id(\\d+)`, and in Express 5 `:"the id"`.
const PARAMETER = /:(?:"([^"]+)"|([\p{ID_Continue}$]+))(?:\([^)]*\))?/gu;
// `/:id?` in Express 4, `{/:id}` in Express 5.
const OPTIONAL = /(\/:\w+(?:\([^)]*\))?)\?|\{([^{}]*)\}/g;

/** Mounts the handler that opens streams. */
export function mountedHub(handler: Handler, events: Events): Handler {
  return mounted(handler, events, {
    home: '/channels',
    under(route) {
      const channel = channelOf(route, this.home);
      return channel === undefined ? '/' : `/${encodeURIComponent(channel)}`;
    },
    // Every path of one segment names a channel there. Without this rule, no route behind the hub could be reached.
    takesAtRoot({ method = '', headers: { accept = '' } }) {
      const asks = /\btext\/event-stream\b/i.test(accept) && acceptsEventStream(accept);
      return asks && (method === 'GET' || method === 'HEAD');
    },
  });
}

/** Mounts the handler of `publisher()`. */
export function mountedPublisher(handler: Handler, events: Events): Handler {
  return mounted(handler, events, {
    home: '/publish',
    under(route) {
      const channel = channelOf(route, this.home);
      if (channel !== undefined) return `/${encodeURIComponent(channel)}`;
      throw new InvalidMountError(
        `The route ${quoted(route.pattern)} names no channel: add a parameter, as in "/publish/:chan_id", or ${remedy(this.home)}.`,
      );
    },
    takesAtRoot(_request, path) {
      if (path.split('/').length > 2) return true;
      throw new InvalidMountError(
        `At the root, publisher() takes the requests of all later routes: ${remedy(this.home)}.`,
      );
    },
  });
}

/** Mounts the handler of `admin()`. */
export function mountedAdmin(
  handler: Handler,
  events: Events,
  isResource: (segment: string) => boolean,
): Handler {
  return mounted(handler, events, {
    home: '/admin',
    under(route, path) {
      if (route.values.size > 0) return path;
      const last = path.slice(path.lastIndexOf('/') + 1);
      if (isResource(last)) return `/${last}`;
      throw new InvalidMountError(
        `The route ${quoted(route.pattern)} does not end with a resource of admin(), such as "/health": end it with one, or ${remedy(this.home)}.`,
      );
    },
    takesAtRoot: () => true,
  });
}

function mounted(handler: Handler, events: Events, rules: Rules): Handler {
  return (request, response, next) => {
    const { route, originalUrl, baseUrl = '', url = '' } = request as Mounted;
    const [path] = cut(withoutOrigin(url), '?');
    // Without Express, below a path, or behind a handler that has set the URL.
    if (
      originalUrl === undefined ||
      (route === undefined && baseUrl !== '') ||
      !isSame(baseUrl + path, cut(withoutOrigin(originalUrl), '?')[0])
    ) {
      handler(request, response, next);
      return;
    }
    const work = () => {
      const matched = routeOf(request, path, rules.home);
      if (matched !== undefined) {
        request.url = rules.under(matched, trimmed(path)) + url.slice(url.indexOf(path) + path.length);
        handler(request, response, next && restoring(request, url, next));
      } else if (next === undefined || baseUrl !== '' || rules.takesAtRoot(request, path)) {
        handler(request, response, next);
      } else next();
      return undefined;
    };
    attempt(work, (reply) => send(request, response, reply), next, events, 'This is not mounted correctly.');
  };
}

function restoring(request: Request, url: string, next: Next): Next {
  return (error) => {
    request.url = url;
    next(error);
  };
}

/**
 * Returns the route under which a handler runs. A route that has called `next()` stays in `request.route`: then its
 * pattern, filled with the parameters, is not the path.
 */
function routeOf({ route, params = {} }: Mounted, path: string, home: string): Route | undefined {
  const patterns: unknown[] = [route?.path].flat();
  for (const pattern of patterns) {
    if (typeof pattern !== 'string') continue;
    const present = pattern.replace(OPTIONAL, (_, express4?: string, express5?: string) => {
      const part = express4 ?? express5 ?? '';
      return namesIn(part).every((name) => params[name] !== undefined) ? part : '';
    });
    const values = new Map(namesIn(present).map((name) => [name, params[name]]));
    if (![...values.values()].every((value) => typeof value === 'string')) continue;
    const filled = present.replace(PARAMETER, (_, name, plain) => values.get(name ?? plain) as string);
    if (isSame(filled, decoded(path) ?? '')) return { pattern, values: values as Map<string, string> };
  }
  const wildcard = patterns.find((pattern) => pattern instanceof RegExp || String(pattern).includes('*'));
  const isMatched = Object.entries(params).some(
    ([name, value]) => /^\d+$/.test(name) || Array.isArray(value),
  );
  if (wildcard === undefined || !isMatched) return undefined;
  throw new InvalidMountError(
    `The route ${quoted(wildcard)} has a wildcard, below which no path can be read: ${remedy(home)}.`,
  );
}

function channelOf({ pattern, values }: Route, home: string): string | undefined {
  const channel = values.get('chan_id');
  if (channel !== undefined || values.size === 0) return channel;
  if (values.size === 1) return [...values.values()][0];
  throw new InvalidMountError(
    `The route ${quoted(pattern)} has several parameters: call the one that names the channel :chan_id, or ${remedy(home)}.`,
  );
}

function remedy(home: string): string {
  return `mount by app.use('${home}', …)`;
}

function quoted(pattern: unknown): string {
  return typeof pattern === 'string' ? JSON.stringify(pattern) : String(pattern);
}

function namesIn(pattern: string): string[] {
  return Array.from(pattern.matchAll(PARAMETER), ([, name, plain]) => (name ?? plain) as string);
}

/** Whether Express takes two paths for one, with its default settings. */
function isSame(one: string, other: string): boolean {
  return trimmed(one).toLowerCase() === trimmed(other).toLowerCase();
}

function trimmed(path: string): string {
  return path.endsWith('/') ? path.slice(0, -1) : path;
}
