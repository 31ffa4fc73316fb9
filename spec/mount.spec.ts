import { expect } from 'chai';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import express4 from 'express4';
import supertest from 'supertest';
import type { Comet, CometOptions } from '../lib/index.js';
import { EVENT_STREAM, EventClient } from './support/client.js';
import { hub } from './support/server.js';

const everyone = { authorize: () => true };

for (const { name, make, version } of [
  { name: 'Express 5', make: express, version: 5 },
  { name: 'Express 4', make: express4, version: 4 },
]) {
  describe(`Mounted under ${name}`, () => {
    /** An application, the channels news and chat, and what its error handler was given. */
    async function house(mount: (app: Express, push: Comet) => unknown, options: CometOptions = {}) {
      const errors: (Error & { code?: string })[] = [];
      const { push, server } = await hub(options, (push) => {
        const app = make();
        mount(app, push);
        app.use((_request, response) => void response.status(418).end());
        app.use((error: Error, _request: Request, response: Response, _next: NextFunction) => {
          errors.push(error);
          response.status(500).end();
        });
        return app;
      });
      const [news] = ['news', 'chat'].map((name) => push.channels.create({ name }));
      return {
        push,
        news: news!,
        errors,
        ask: supertest(server.url),
        /** Opens a stream as an EventSource would, and returns the channels that it carries. */
        channels: async (path: string) => {
          const client = await EventClient.open(server.url + path);
          const ended = client.events.filter(({ event }) => event === 'comet:end');
          expect(ended, 'channels that nobody asked for').to.deep.equal([]);
          return client.opening.channels;
        },
      };
    }

    /** Asks for what can't work where it is mounted, and returns what the error handler was told. */
    async function refused(mount: Parameters<typeof house>[0], path: string, method: 'get' | 'post' = 'get') {
      const { ask, errors } = await house(mount);
      await ask[method](path).set(EVENT_STREAM).expect(500);
      expect(errors).to.have.length(1);
      expect(errors[0]).to.include({ code: 'INVALID_MOUNT', name: 'InvalidMountError' });
      return errors[0]!.message;
    }

    describe('a hub', () => {
      it('below a path takes the channel from the path', async () => {
        const { channels, ask } = await house((app, push) => app.use('/channels', push));
        expect(await channels('/channels/news')).to.deep.equal(['news']);
        expect(await channels('/channels?chan_id=news&chan_id=chat')).to.deep.equal(['news', 'chat']);
        await ask.get('/channels/gone').expect(404);
        await ask.get('/about').expect(418);
      });

      it('in a router takes it from the path below the router', async () => {
        const { channels, ask } = await house((app, push) => app.use('/channels', make.Router().use(push)));
        expect(await channels('/channels/news')).to.deep.equal(['news']);
        await ask.get('/channels/gone').expect(404);
      });

      it('under a route with a parameter takes it from the parameter', async () => {
        const { push, channels, ask } = await house((app, push) => app.get('/events/:id', push));
        push.channels.create({ name: 'a/b?c +%' });
        expect(await channels('/events/news')).to.deep.equal(['news']);
        expect(await channels('/EVENTS/news/')).to.deep.equal(['news']);
        expect(await channels('/events/news?chan_id=chat')).to.deep.equal(['news', 'chat']);
        expect(await channels(`/events/${encodeURIComponent('a/b?c +%')}`)).to.deep.equal(['a/b?c +%']);
        await ask.get('/events/gone').expect(404);
        await ask.head('/events/news').expect(200);
        await ask.get('/events').expect(418);
      });

      const routes: [route: string | string[], path: string, versions?: number][] = [
        ['/:id', '/news'],
        ['/events/:name/', '/events/news'],
        ['/events-:id', '/events-news'],
        ['/events/:id.json', '/events/news.json'],
        ['/tenants/:tenant/:chan_id', '/tenants/acme/news'],
        [['/other/:id', '/events/:id'], '/events/news'],
        ['/events/:id(\\w+)', '/events/news', 4],
        ['/events/:id?', '/events/news', 4],
        ['/events{/:id}', '/events/news', 5],
        ['/events/:"the id"', '/events/news', 5],
      ];
      for (const [route, path, only = version] of routes) {
        if (only !== version) continue;
        it(`under the route ${JSON.stringify(route)} opens the channel of ${path}`, async () => {
          const { channels } = await house((app, push) => app.get(route, push));
          expect(await channels(path)).to.deep.equal(['news']);
        });
      }

      it('under a route with strict and case-sensitive routing takes it from the parameter', async () => {
        const { channels, ask } = await house((app, push) => {
          app.set('strict routing', true).set('case sensitive routing', true);
          app.get('/Events/:id', push);
        });
        expect(await channels('/Events/news')).to.deep.equal(['news']);
        await ask.get('/Events/news/').expect(418);
        await ask.get('/events/news').expect(418);
      });

      it('under an exact route takes the channels from the query alone', async () => {
        const { channels, ask } = await house((app, push) => app.get('/events', push));
        expect(await channels('/events?chan_id=news')).to.deep.equal(['news']);
        expect(await channels('/events/?chan_id=news&chan_id=chat')).to.deep.equal(['news', 'chat']);
        const { body } = await ask.get('/events').expect(400);
        expect(body.error.code).to.equal('NO_CHANNEL');
      });

      it('under a route of a router looks at the parameters of its own route', async () => {
        const { channels } = await house((app, push) => {
          const router = make.Router({ mergeParams: true });
          router.get('/events/:id', push).get('/all', push);
          app.use('/users/:user', router);
        });
        expect(await channels('/users/ada/events/news')).to.deep.equal(['news']);
        expect(await channels('/users/ada/all?chan_id=chat')).to.deep.equal(['chat']);
      });

      it('under a route for all methods refuses those that open no stream', async () => {
        const { channels, ask } = await house((app, push) => app.all('/events/:id', push));
        expect(await channels('/events/news')).to.deep.equal(['news']);
        await ask.post('/events/news').expect(405);
      });

      it('behind another handler of the route works as it does alone', async () => {
        const { channels } = await house((app, push) => {
          app.get(
            '/events/:id',
            (_request, _response, next) => next(),
            (request, response, next) => push(request, response, next),
          );
        });
        expect(await channels('/events/news')).to.deep.equal(['news']);
      });

      it('is not confused by a route that has passed the request on', async () => {
        const { channels, ask } = await house((app, push) => {
          const pass = (_request: Request, _response: Response, next: NextFunction) => next();
          app.all(version === 4 ? '*' : '/{*path}', pass);
          app.all(/.*/, pass);
          app.all(['/users/:user/channels', '/users/:user/channels/:id', '/channels/news'], pass);
          app.use('/channels', push);
          app.use('/users/:user/channels', push);
        });
        expect(await channels('/channels/news')).to.deep.equal(['news']);
        expect(await channels('/users/chat/channels/news')).to.deep.equal(['news']);
        expect(await channels('/users/chat/channels?chan_id=news')).to.deep.equal(['news']);
        await ask.get('/channels/a/b').expect(418);
      });

      it('takes a path that a handler before it has rewritten', async () => {
        const rewrite = (request: Request, _response: Response, next: NextFunction) => {
          request.url = '/news';
          next();
        };
        const { channels, ask } = await house((app, push) => {
          app.get(['/stream', version === 4 ? '/streams/*' : '/streams/*all'], rewrite, push);
        });
        expect(await channels('/stream')).to.deep.equal(['news']);
        expect(await channels('/streams/a/b')).to.deep.equal(['news']);
        await ask.head('/stream').expect(200);
      });

      it('gives authorize the parameters, and its errors to the handler of the route', async () => {
        const failure = new Error('the database is down');
        const seen: unknown[] = [];
        const { ask, push } = await house(
          (app, push) => {
            app.get('/events/:id', push);
            app.use(
              '/events',
              (error: unknown, { url }: Request, response: Response, _next: NextFunction) => {
                seen.push(error, url);
                response.status(503).end();
              },
            );
          },
          {
            authorize: async (request, channelIds) => {
              seen.push((request as Request).params.id, channelIds);
              throw failure;
            },
          },
        );
        await ask.get('/events/news').expect(503);
        expect(seen).to.deep.equal(['news', ['news'], failure, '/news']);
        expect(push.inspect().listeners).to.equal(0);
      });

      it('at the root takes what asks for an event stream, and passes everything else on', async () => {
        const { channels, ask, push } = await house((app, push) => app.use(push));
        expect(await channels('/news')).to.deep.equal(['news']);
        expect(await channels('/?chan_id=chat')).to.deep.equal(['chat']);
        await ask.get('/gone').set(EVENT_STREAM).expect(404);
        await ask.head('/news').set(EVENT_STREAM).expect(200);
        const page = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';
        for (const accept of [page, '*/*', 'application/json', 'text/event-stream;q=0, */*']) {
          for (const path of ['/', '/news', '/favicon.ico', '/?chan_id=news']) {
            await ask.get(path).set('Accept', accept).expect(418);
          }
        }
        await ask.post('/news').set(EVENT_STREAM).expect(418);
        await ask.options('/news').expect(418);
        push.deactivate();
        await ask.get('/about').expect(418);
        await ask.get('/news').set(EVENT_STREAM).expect(503);
      });

      it('at the root behind a route that has passed the request on does the same', async () => {
        const { channels, ask } = await house((app, push) => {
          app.all(version === 4 ? '*' : '/{*path}', (_request, _response, next) => next());
          app.use('/', push);
        });
        expect(await channels('/news')).to.deep.equal(['news']);
        await ask.get('/about').expect(418);
      });

      it('under a route with several parameters is refused, with the remedy', async () => {
        const message = await refused((app, push) => app.get('/:tenant/:id', push), '/acme/news');
        expect(message).to.contain('"/:tenant/:id"').and.contain(':chan_id');
      });

      it('under a route with a wildcard is refused, with the remedy', async () => {
        const wildcards = version === 4 ? ['*', '/events/*', '/events/:id(.*)/*'] : ['/*all', '/events/*all'];
        for (const route of [...wildcards, /^\/events\/(.*)$/]) {
          const message = await refused((app, push) => app.get(route, push), '/events/news/');
          expect(message).to.contain(String(route)).and.contain("app.use('/channels', …)");
        }
      });

      it('in an asynchronous handler has its refusal told to next, not to the process', async () => {
        const message = await refused(
          (app, push) =>
            app.get('/:tenant/:id', async (request, response, next) => {
              await Promise.resolve();
              push(request, response, next);
            }),
          '/acme/news',
        );
        expect(message).to.contain('"/:tenant/:id"');
      });

      it('that is not given next tells its refusal by the event error', async () => {
        const { push, ask } = await house((app, push) => {
          app.get('/:tenant/:id', async (request, response) => {
            await Promise.resolve();
            push(request, response);
          });
        });
        const errors: unknown[] = [];
        push.on('error', (error) => errors.push(error));
        await ask.get('/acme/news').expect(500);
        expect(errors.map((error) => (error as { code: string }).code)).to.deep.equal(['INVALID_MOUNT']);
      });
    });

    describe('a publisher', () => {
      it('takes the channel from the path below a mount, or from the parameter of a route', async () => {
        const { ask, news } = await house((app, push) => {
          app.use('/publish', push.publisher(everyone));
          app.post('/events/:id', push.publisher(everyone));
        });
        await ask.post('/publish/news').send('one').expect(200);
        await ask.post('/events/news?event=said').send('two').expect(200);
        await ask.post('/events/gone').send('three').expect(404);
        expect(news.inspect().writes).to.equal(2);
      });

      it('under an exact route is refused, with the remedy', async () => {
        const mount: Parameters<typeof house>[0] = (app, push) =>
          app.post('/publish', push.publisher(everyone));
        expect(await refused(mount, '/publish', 'post')).to.contain("app.use('/publish', …)");
      });

      it('at the root is refused, with the remedy: it would take every POST', async () => {
        const mount: Parameters<typeof house>[0] = (app, push) => app.use(push.publisher(everyone));
        for (const path of ['/', '/login']) {
          expect(await refused(mount, path, 'post')).to.contain("app.use('/publish', …)");
          expect(await refused(mount, path)).to.contain("app.use('/publish', …)");
        }
      });
    });

    describe('the administration', () => {
      it('under an exact route is the one resource by which the route ends', async () => {
        const { ask, push } = await house((app, push) => {
          app.get('/health', push.admin());
          app.get('/api/v1/health', push.admin());
          app.post('/ops/deactivate', push.admin());
          app.use('/internal', make.Router().get('/health', push.admin()));
        });
        for (const path of ['/health', '/api/v1/health', '/internal/health']) await ask.get(path).expect(200);
        for (const path of ['/', '/api/v1', '/internal/activate', '/api/v1/health/x'])
          await ask.get(path).expect(418);
        await ask.post('/ops/deactivate').expect(200);
        expect(push.activated).to.equal(false);
      });

      it('under a route with parameters has its path below the router', async () => {
        const { ask, push } = await house((app, push) => {
          app.use('/admin', make.Router().all('/:what', push.admin()).all('/:what/:id', push.admin()));
        });
        await ask.get('/admin/health').expect(200);
        await ask.get('/admin/nothing').expect(418);
        await ask.delete('/admin/channels/news').expect(200);
        expect(push.channels.find('news')).to.equal(undefined);
      });

      it('under a route that is none of its resources is refused, with the remedy', async () => {
        const message = await refused((app, push) => app.get('/api/healthz', push.admin()), '/api/healthz');
        expect(message).to.contain('"/api/healthz"').and.contain("app.use('/admin', …)");
      });

      it('under a route with a wildcard is refused, with the remedy', async () => {
        const route = version === 4 ? '/admin/*' : '/admin/*all';
        const message = await refused((app, push) => app.all(route, push.admin()), '/admin/health');
        expect(message).to.contain(`"${route}"`).and.contain("app.use('/admin', …)");
      });
    });
  });
}
