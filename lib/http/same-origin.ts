import type { Request } from '../transport/stream.js';
import { Refusal } from './reply.js';

// The threat: somebody who is logged in here opens a page of another's, and that page has the browser send a POST with the
// cookies that are for us, or with a password that the browser keeps for HTTP authentication. Where a form could send it
// too, no preflight stands before it. A token would have to be fetched and kept by every client, and a header that must be
// there would be one more thing to know for curl; so this looks at what browsers say by themselves, and no page can take
// back. Who sends neither header is no browser of these years, and carries nobody else's cookies.

/** Refuses what a browser sends on behalf of a page of another origin; `undefined` for everything else. */
export function refusalOfOtherOrigin({ headers, method = '' }: Request): Refusal | undefined {
  if (method === 'GET' || method === 'HEAD') return undefined;
  const { origin } = headers;
  const host = headers.host ?? (headers[':authority'] as string | undefined);
  const site = headers['sec-fetch-site'];
  // Browsers send Sec-Fetch-Site where the connection can be trusted: over TLS, and on one machine. Elsewhere there is
  // Origin, with each request that could change something (WHATWG Fetch §3.2).
  const isOurs =
    site === undefined
      ? origin === undefined || isOriginOf(origin, host)
      : site === 'same-origin' || site === 'none';
  if (isOurs) return undefined;
  return new Refusal(403, 'OTHER_ORIGIN', 'A page of another origin may not do this: ask by its own server.');
}

/** An opaque origin, `null`, is that of nobody. */
function isOriginOf(origin: string, host: string | undefined): boolean {
  return URL.canParse(origin) && new URL(origin).host === host;
}
