import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import * as path from 'node:path';
import { test } from 'node:test';
import { resolveModel } from '../../lib/data';
import { proxySettings } from '../../lib/data/hub/proxy';
import { ID, model, type Place, says, weights, withHub } from './hub-place';

interface Proxy {
  /** Without user and password. */
  readonly address: string;
  /** The hosts that it was asked to connect to. */
  readonly asked: string[];
}

/** A proxy that connects to whatever it is asked for, and, where `login` is given, only for that user and password. */
async function withProxy(login: string | undefined, run: (proxy: Proxy) => Promise<void>): Promise<void> {
  const asked: string[] = [];
  const sockets = new Set<net.Socket>();
  const server = http.createServer((_, response) => void response.writeHead(400).end());
  server.on('connect', (request: http.IncomingMessage, client: net.Socket) => {
    asked.push(request.url ?? '');
    const wanted = login && `Basic ${Buffer.from(login).toString('base64')}`;
    if (wanted && request.headers['proxy-authorization'] !== wanted) {
      client.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n');
      return;
    }
    const [host, port] = (request.url ?? '').split(':');
    const upstream = net.connect(Number(port), host, () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(client).pipe(upstream);
    });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await run({ address: `127.0.0.1:${(server.address() as AddressInfo).port}`, asked });
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

/** That the model's files have come, whole. */
async function downloads({ hub }: Place): Promise<void> {
  const folder = await resolveModel(ID);
  assert.deepEqual(fs.readFileSync(path.join(folder, 'model.safetensors')), weights);
  assert.ok(hub.seen.length > 0);
}

for (const variable of ['HTTP_PROXY', 'http_proxy', 'ALL_PROXY'])
  test(`a model is downloaded through the proxy that ${variable} names`, async () => {
    await withProxy(undefined, async (proxy) => {
      await withHub(model, async (place) => {
        place.env(variable, proxy.address); // without http://, as many write it
        await downloads(place);
        assert.ok(proxy.asked.includes(new URL(place.hub.endpoint).host), proxy.asked.join());
      });
    });
  });

test('hosts of NO_PROXY are asked without the proxy, and so are addresses of the other kind', async () => {
  const direct: Array<Record<string, string>> = [{ NO_PROXY: 'example.com, 127.0.0.1' }, { no_proxy: '*' }];
  await withProxy(undefined, async (proxy) => {
    for (const exception of direct)
      await withHub(model, async (place) => {
        place.env('HTTP_PROXY', `http://${proxy.address}`);
        for (const [name, value] of Object.entries(exception)) place.env(name, value);
        await downloads(place);
      });
    await withHub(model, async (place) => {
      place.env('HTTPS_PROXY', `http://${proxy.address}`);
      await downloads(place);
    });
    assert.deepEqual(proxy.asked, []);
  });
});

test('user and password of a proxy are sent to it, and not shown where they are wrong', async () => {
  await withProxy('me:S ECRET', async (proxy) => {
    await withHub(model, async (place) => {
      place.env('HTTP_PROXY', `http://me:WRONG@${proxy.address}`);
      await assert.rejects(resolveModel(ID), (error: Error) => {
        assert.doesNotMatch(error.message, /WRONG/);
        return says(/cannot be reached \(the proxy answered with status 407\); check the proxy http:\/\/127\.0\.0\.1:\d+, /)(error);
      });
      assert.deepEqual(place.hub.seen, []);
      place.env('HTTP_PROXY', `http://me:S%20ECRET@${proxy.address}`);
      await downloads(place);
    });
  });
});

test('a proxy that is not there is named', async () => {
  await withHub(model, async ({ env }) => {
    env('HTTP_PROXY', 'http://127.0.0.1:9');
    await assert.rejects(resolveModel(ID), says(/cannot be reached \(ECONNREFUSED\); check the proxy http:\/\/127\.0\.0\.1:9, /));
  });
});

test('what can be no proxy is refused, without a password in it', () => {
  assert.throws(() => proxySettings({ HTTPS_PROXY: 'ftp://proxy:21' }), says(/^HTTPS_PROXY is "ftp:\/\/proxy:21", but /));
  assert.throws(
    () => proxySettings({ https_proxy: 'http://me:SECRET@:x' }),
    (error: Error) => {
      assert.doesNotMatch(error.message, /SECRET/);
      return says(/^https_proxy is an address with a user or password, but /)(error);
    },
  );
  const named = proxySettings({ HTTPS_PROXY: '', ALL_PROXY: 'socks5h://proxy:1080', http_proxy: 'first:1', HTTP_PROXY: 'second:2' });
  assert.deepEqual(named, { https: 'socks5://proxy:1080', http: 'http://first:1', except: '' });
});

test('a proxy does not keep a program from ending', async () => {
  await withProxy(undefined, async (proxy) => {
    await withHub(model, async (place) => {
      const lib = path.resolve(__dirname, '../../lib/data');
      const code = `require(${JSON.stringify(lib)}).resolveModel(${JSON.stringify(ID)}).then(() => console.log('done'))`;
      const child = spawn(process.execPath, ['-e', code], {
        env: { ...process.env, HTTP_PROXY: `http://${proxy.address}` },
        timeout: 20_000,
      });
      let said = '';
      child.stdout.on('data', (data) => (said += data));
      child.stderr.on('data', (data) => (said += data));
      const status = await new Promise((resolve) => child.on('exit', resolve));
      assert.equal(said, 'done\n');
      assert.equal(status, 0);
      assert.ok(proxy.asked.length > 0 && place.hub.seen.length > 0);
    });
  });
});
