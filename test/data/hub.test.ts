import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { type DownloadProgress, resolveModel } from '../../lib/data';
import { Interrupted } from '../../lib/interruption';
import { config, ID, model, says, weights, withHub } from './hub-place';
import { COMMIT, gitSha1, sha256 } from './hub-server';

test('a local folder is taken as it is, without the network', async () => {
  await withHub(model, async ({ hub, home, cache }) => {
    const folder = path.join(home, 'model');
    fs.mkdirSync(folder);
    assert.equal(await resolveModel(folder), folder);
    assert.deepEqual(hub.seen, []);
    assert.ok(!fs.existsSync(cache));
  });
});

test('what can only be a path is never looked for on the Hub', async () => {
  await withHub(model, async ({ hub, home }) => {
    for (const name of ['./nowhere', '../nowhere', '/no/where', 'no\\where', 'a/b/c', 'models/', '~/x']) {
      await assert.rejects(resolveModel(name), says(/There is no folder .*check the path/));
    }
    const file = path.join(home, 'config.json');
    fs.writeFileSync(file, '{}');
    await assert.rejects(resolveModel(file), says(/is a file, but the folder of a model was expected/));
    await assert.rejects(resolveModel('what is this?'), says(/neither a folder nor a model's name/));
    assert.deepEqual(hub.seen, []);
  });
});

test('a path that the system cannot follow is named, and a name too long for a path may still be an id', async (t) => {
  await withHub(model, async ({ home, hub }) => {
    if (process.platform !== 'win32') {
      const loop = path.join(home, 'loop');
      fs.symlinkSync(loop, loop);
      await assert.rejects(resolveModel(loop), says(/loop is a link that leads back to itself/));
    }
    await assert.rejects(resolveModel(`./${'x'.repeat(300)}`), says(/There is no folder .*check the path/));
    await assert.rejects(resolveModel('x'.repeat(300)), says(/neither a folder nor a model's name/));
    assert.deepEqual(hub.seen, []);
    for (const [code, outcome] of [
      ['EACCES', says(/tester\/tiny-model cannot be read: permission denied; change its permissions/)],
      ['ENAMETOOLONG', undefined],
    ] as const) {
      const stat = fs.statSync;
      // permissions do not hold for root, and an id is too long for few file systems
      const mock = t.mock.method(fs, 'statSync', (name: string, options: object) => {
        if (name === ID) throw Object.assign(new Error(code), { code });
        return stat(name, options);
      });
      if (outcome) await assert.rejects(resolveModel(ID), outcome);
      else await resolveModel(ID);
      mock.mock.restore();
    }
  });
});

test('a Hub model is downloaded into the layout of the Hugging Face cache', async () => {
  await withHub(model, async ({ cache, repository }) => {
    const folder = await resolveModel(ID);
    assert.equal(folder, path.join(cache, 'models--tester--tiny-model', 'snapshots', COMMIT));
    assert.equal(fs.readFileSync(path.join(repository, 'refs/main'), 'utf8'), COMMIT);
    assert.deepEqual(fs.readFileSync(path.join(folder, 'model.safetensors')), weights);
    assertShows(path.join(folder, 'model.safetensors'), path.join(repository, 'blobs', sha256(weights)));
    assertShows(path.join(folder, 'config.json'), path.join(repository, 'blobs', gitSha1(config)));
  });
});

/** A file of a snapshot is its blob: by a relative symbolic link, or by a hard one, on a Windows that does not allow these. */
function assertShows(file: string, blob: string): void {
  if (process.platform === 'win32') assert.equal(fs.statSync(file).ino, fs.statSync(blob).ino);
  else assert.equal(fs.readlinkSync(file), path.relative(path.dirname(file), blob));
}

const notAllowed = (): never => {
  throw Object.assign(new Error('operation not permitted'), { code: 'EPERM' });
};

for (const [what, fails] of [
  ['are not allowed', notAllowed],
  ['are said to be made but are not', () => undefined],
] as const) {
  test(`where symbolic links ${what}, as on Windows, the cache holds every content once all the same`, async (t) => {
    await withHub(model, async ({ repository, hub }) => {
      t.mock.method(fs, 'symlinkSync', fails);
      const folder = await resolveModel(ID);
      assert.deepEqual(fs.readFileSync(path.join(folder, 'model.safetensors')), weights);
      assert.equal(
        fs.statSync(path.join(folder, 'model.safetensors')).ino,
        fs.statSync(path.join(repository, 'blobs', sha256(weights))).ino,
      );
      hub.seen.length = 0;
      assert.equal(await resolveModel(ID, { revision: COMMIT }), folder);
      assert.deepEqual(hub.seen, []);
    });
  });
}

test('where there are no links at all, contents are copied, and a copy that was cut off does not pass for the file', async (t) => {
  await withHub(model, async () => {
    t.mock.method(fs, 'symlinkSync', notAllowed);
    t.mock.method(fs, 'linkSync', notAllowed);
    const half = t.mock.method(fs, 'copyFileSync', (_: string, target: string) => {
      fs.writeFileSync(target, 'half');
      throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    });
    await assert.rejects(resolveModel(ID), /^UserError: The disk is full/);
    half.mock.restore();
    const folder = await resolveModel(ID);
    for (const file of ['config.json', 'model.safetensors'] as const)
      assert.deepEqual(fs.readFileSync(path.join(folder, file)), model[file]);
    assert.deepEqual(fs.readdirSync(folder).sort(), ['config.json', 'model.safetensors', 'tokenizer.json']);
  });
});

test('only configuration, tokenizer and safetensors files are downloaded, never what could run code', async () => {
  await withHub(model, async () => {
    assert.deepEqual(fs.readdirSync(await resolveModel(ID)).sort(), ['config.json', 'model.safetensors', 'tokenizer.json']);
  });
});

test('the tokenizer alone is downloaded without the weights', async () => {
  await withHub(model, async () => {
    assert.deepEqual(fs.readdirSync(await resolveModel(ID, { files: 'tokenizer' })).sort(), ['config.json', 'tokenizer.json']);
  });
});

test('what is in the cache is not downloaded again', async () => {
  await withHub(model, async ({ hub }) => {
    await resolveModel(ID);
    hub.seen.length = 0;
    await resolveModel(ID);
    assert.deepEqual(
      hub.seen.map(({ path }) => path),
      [`/api/models/${ID}/revision/main`],
    );
    hub.seen.length = 0;
    await resolveModel(ID, { revision: COMMIT });
    assert.deepEqual(hub.seen, [], 'a commit never changes, so nobody is asked');
  });
});

test('a commit that Python has left in the cache without tokenizer, or without a part of it, is completed', async (t) => {
  const whole = { ...model, 'tokenizer_config.json': '{}' };
  await withHub(whole, async ({ hub, cache, repository, env }) => {
    const folder = path.join(repository, 'snapshots', COMMIT);
    const leave = (...names: Array<keyof typeof whole>): void => {
      fs.rmSync(cache, { recursive: true, force: true });
      fs.mkdirSync(folder, { recursive: true });
      for (const name of names) fs.writeFileSync(path.join(folder, name), whole[name]);
    };
    const all = ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];
    for (const left of [[], ['tokenizer.json']] as const) {
      leave('config.json', 'model.safetensors', ...left);
      assert.equal(await resolveModel(ID, { revision: COMMIT }), folder);
      assert.deepEqual(fs.readdirSync(folder).sort(), all);
      hub.seen.length = 0;
      await resolveModel(ID, { revision: COMMIT });
      assert.deepEqual(hub.seen, [], 'what this commit does not have is remembered');
      leave('tokenizer.json', ...left);
      await resolveModel(ID, { revision: COMMIT, files: 'tokenizer' });
      assert.deepEqual(fs.readdirSync(folder).sort(), ['config.json', 'tokenizer.json', 'tokenizer_config.json']);
    }
    leave('config.json', 'model.safetensors');
    t.mock.method(console, 'warn', () => {});
    env('HF_ENDPOINT', 'http://127.0.0.1:9');
    assert.equal(await resolveModel(ID, { revision: COMMIT }), folder, 'nobody can be asked, and what is there may be all');
  });
});

test('a commit that Python knows the whole of is taken from the cache without asking', async () => {
  await withHub(model, async ({ hub, repository }) => {
    const folder = await resolveModel(ID);
    const absent = fs.readdirSync(path.join(repository, '.no_exist', COMMIT)).sort();
    assert.deepEqual(
      absent,
      [
        'adapter_config.json',
        'added_tokens.json',
        'chat_template.jinja',
        'chat_template.json',
        'generation_config.json',
        'merges.txt',
        'special_tokens_map.json',
        'tokenizer.model',
        'tokenizer_config.json',
        'vocab.json',
      ],
      'the names and the place are those of huggingface_hub',
    );
    for (const name of absent) assert.equal(fs.statSync(path.join(repository, '.no_exist', COMMIT, name)).size, 0);
    hub.faults.noApi = true;
    fs.rmSync(path.join(repository, '.no_exist'), { recursive: true });
    assert.equal(await resolveModel(ID, { revision: COMMIT }), folder);
    assert.ok(!fs.existsSync(path.join(repository, '.no_exist')), 'a mirror may lack what the Hub has');
  });
});

test('progress tells the bytes of every file up to its end', async () => {
  await withHub(model, async () => {
    const said: DownloadProgress[] = [];
    await resolveModel(ID, { onProgress: (progress) => said.push(progress) });
    const last = said.filter(({ file }) => file === 'model.safetensors').at(-1);
    assert.deepEqual([last?.loaded, last?.total], [weights.length, weights.length]);
    assert.ok(said.every(({ totalLoaded, totalSize }) => totalLoaded <= totalSize));
  });
});

test('two that ask for the same model at once share one download', async () => {
  await withHub(model, async ({ hub }) => {
    hub.faults.breaks = 1;
    const [one, two] = await Promise.all([resolveModel(ID), resolveModel(ID)]);
    assert.equal(one, two);
    assert.deepEqual(fs.readFileSync(path.join(one, 'model.safetensors')), weights);
    assert.equal(hub.seen.filter(({ path }) => path.startsWith('/storage')).length, 2, 'one download and its resumption');
  });
});

test('a connection that breaks midway is resumed from where it broke', async () => {
  await withHub(model, async ({ hub }) => {
    hub.faults.breaks = 3;
    const folder = await resolveModel(ID);
    assert.deepEqual(fs.readFileSync(path.join(folder, 'model.safetensors')), weights);
    const ranges = hub.seen.filter(({ path }) => path.startsWith('/storage')).map(({ range }) => range);
    assert.deepEqual(ranges, [undefined, 'bytes=150000-', 'bytes=225000-', 'bytes=262500-']);
  });
});

test('a download that an earlier run left off is gone on with', async () => {
  await withHub(model, async ({ hub, repository }) => {
    fs.mkdirSync(path.join(repository, 'blobs'), { recursive: true });
    fs.writeFileSync(path.join(repository, 'blobs', `${sha256(weights)}.incomplete`), weights.subarray(0, 100_000));
    const folder = await resolveModel(ID);
    assert.deepEqual(fs.readFileSync(path.join(folder, 'model.safetensors')), weights);
    assert.equal(hub.seen.find(({ path }) => path.startsWith('/storage'))?.range, 'bytes=100000-');
    assert.deepEqual(
      fs.readdirSync(path.join(repository, 'blobs')).filter((name) => name.endsWith('.incomplete')),
      [],
    );
  });
});

test("a notebook's stop button ends a download, and the next goes on with it", async (t) => {
  const kernel = globalThis as { __tslab__?: unknown };
  kernel.__tslab__ = { require: () => ({ newDisplay: () => ({ text() {} }) }) };
  t.after(() => delete kernel.__tslab__);
  await withHub(model, async ({ hub }) => {
    hub.faults.breaks = 1;
    const onProgress = ({ file, loaded }: { file: string; loaded: number }) => {
      if (file === 'model.safetensors' && loaded === 150_000) process.emit('SIGINT');
    };
    await assert.rejects(resolveModel(ID, { onProgress }), Interrupted);
    const folder = await resolveModel(ID);
    assert.deepEqual(fs.readFileSync(path.join(folder, 'model.safetensors')), weights);
    assert.deepEqual(
      hub.seen.filter(({ path }) => path.startsWith('/storage')).map(({ range }) => range),
      [undefined, 'bytes=150000-'],
    );
  });
});

test('leftovers that are damaged or too long are thrown away and downloaded anew', async () => {
  for (const leftover of [Buffer.alloc(100_000), Buffer.alloc(weights.length), Buffer.alloc(weights.length + 5)]) {
    await withHub(model, async ({ repository }) => {
      fs.mkdirSync(path.join(repository, 'blobs'), { recursive: true });
      fs.writeFileSync(path.join(repository, 'blobs', `${sha256(weights)}.incomplete`), leftover);
      assert.deepEqual(fs.readFileSync(path.join(await resolveModel(ID), 'model.safetensors')), weights);
    });
  }
});

test('a server that knows no ranges is read from the start', async () => {
  await withHub(model, async ({ hub }) => {
    hub.faults.breaks = 1;
    hub.faults.noRanges = true;
    assert.deepEqual(fs.readFileSync(path.join(await resolveModel(ID), 'model.safetensors')), weights);
  });
});

test('content with a wrong hash is refused and not kept, for large and small files', async () => {
  for (const name of ['model.safetensors', 'config.json']) {
    await withHub(model, async ({ hub, repository }) => {
      hub.faults.replaced.set(name, Buffer.from((model as Record<string, string | Buffer>)[name]).fill(1, 5, 9));
      await assert.rejects(
        resolveModel(ID),
        says(new RegExp(`${name.replace('.', '\\.')} of ${ID} arrived damaged: its hash is [0-9a-f]+`), /run again/),
      );
      assert.ok(!fs.existsSync(path.join(repository, 'snapshots', COMMIT, name)));
      assert.ok(!fs.existsSync(path.join(repository, 'refs/main')));
      hub.faults.replaced.clear();
      await resolveModel(ID);
    });
  }
});

test('the token goes to the Hub and not to where it redirects', async () => {
  await withHub(model, async ({ hub, env }) => {
    env('HF_TOKEN', 'hf_secret');
    await resolveModel(ID);
    for (const { path, token } of hub.seen) assert.equal(token, path.startsWith('/storage') ? undefined : 'Bearer hf_secret', path);
  });
});

test('the token that logging in has written is used', async () => {
  await withHub(model, async ({ hub, cache }) => {
    fs.mkdirSync(path.dirname(cache), { recursive: true });
    fs.writeFileSync(path.join(path.dirname(cache), 'token'), 'hf_written\n');
    await resolveModel(ID);
    assert.equal(hub.seen[0].token, 'Bearer hf_written');
  });
});

test('a gated model says that access must be asked for and HF_TOKEN set', async () => {
  await withHub(model, async ({ hub, env }) => {
    hub.faults.gatedFor = 'hf_right';
    await assert.rejects(resolveModel(ID), says(/is gated.*set HF_TOKEN/));
    env('HF_TOKEN', 'hf_wrong');
    await assert.rejects(resolveModel(ID), says(/is gated.*HF_TOKEN of the account that was granted it/));
    env('HF_TOKEN', 'hf_right');
    await resolveModel(ID);
  });
});

test('a model or revision that does not exist is named', async () => {
  await withHub(model, async () => {
    await assert.rejects(
      resolveModel('tester/other'),
      says(/tester\/other is neither a folder here nor a model at http.*check the spelling/),
    );
    await assert.rejects(resolveModel(ID, { revision: 'v9' }), says(/has no revision "v9"/));
    await assert.rejects(resolveModel(ID, { revision: '../../x' }), says(/is no revision/));
  });
});

test('a model without safetensors weights is refused before anything large is downloaded', async () => {
  await withHub({ 'config.json': config, 'pytorch_model.bin': 'pickle' }, async ({ hub }) => {
    await assert.rejects(resolveModel(ID), says(/has no safetensors weights \(only pytorch_model\.bin/));
    assert.ok(!hub.seen.some(({ path }) => path.includes('.bin')));
  });
});

test('offline mode serves the cache and asks nobody', async () => {
  await withHub(model, async ({ hub, env }) => {
    env('HF_HUB_OFFLINE', '1');
    await assert.rejects(resolveModel(ID), says(/is not in the cache .*HF_HUB_OFFLINE/));
    env('HF_HUB_OFFLINE', undefined);
    const folder = await resolveModel(ID);
    env('HF_HUB_OFFLINE', '1');
    hub.seen.length = 0;
    assert.equal(await resolveModel(ID), folder);
    assert.deepEqual(hub.seen, []);
  });
});

test('a cache that holds only the tokenizer does not pass for the model', async () => {
  await withHub(model, async ({ env }) => {
    await resolveModel(ID, { files: 'tokenizer' });
    env('HF_HUB_OFFLINE', '1');
    await assert.rejects(resolveModel(ID), says(/is not in the cache/));
    await resolveModel(ID, { files: 'tokenizer' });
  });
});

test('HF_HUB_CACHE wins over HF_HOME', async () => {
  await withHub(model, async ({ env, cache }) => {
    const other = `${cache}-other`;
    env('HF_HUB_CACHE', other);
    assert.ok((await resolveModel(ID)).startsWith(other));
  });
});

test('a mirror without the API is asked for each known file', async () => {
  await withHub(model, async ({ hub, repository }) => {
    hub.faults.noApi = true;
    const folder = await resolveModel(ID);
    assert.deepEqual(fs.readFileSync(path.join(folder, 'model.safetensors')), weights);
    assertShows(path.join(folder, 'config.json'), path.join(repository, 'blobs', gitSha1(config)));
    assert.equal(fs.readFileSync(path.join(repository, 'refs/main'), 'utf8'), COMMIT);
    await assert.rejects(resolveModel('tester/other'), says(/neither a folder here nor a model/));
  });
});

const index = (...shards: string[]) => JSON.stringify({ weight_map: Object.fromEntries(shards.map((shard, i) => [`layer.${i}`, shard])) });

test('a sharded model is downloaded with every shard of its index', async () => {
  const [one, two] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  const files = {
    'config.json': config,
    'model.safetensors.index.json': index(one, two),
    [one]: randomBytes(1000),
    [two]: randomBytes(2000),
    'extra.safetensors': 'x',
  };
  for (const noApi of [false, true]) {
    await withHub(files, async ({ hub, env }) => {
      hub.faults.noApi = noApi;
      const folder = await resolveModel(ID);
      assert.deepEqual(fs.readdirSync(folder).sort(), ['config.json', one, two, 'model.safetensors.index.json']);
      env('HF_HUB_OFFLINE', '1');
      assert.equal(await resolveModel(ID), folder);
    });
  }
});

test('an index whose shards leave the folder or are not safetensors is refused', async () => {
  for (const shard of ['../evil.safetensors', '/etc/evil.safetensors', 'a\\evil.safetensors', 'model.bin']) {
    await withHub({ 'config.json': config, 'model.safetensors.index.json': index(shard), [shard]: 'x' }, async ({ cache }) => {
      await assert.rejects(resolveModel(ID), says(/as a weight file, but only \.safetensors files in the same folder are read/));
      assert.ok(!fs.readdirSync(path.dirname(cache), { recursive: true }).some((name) => String(name).includes('evil')));
    });
  }
});
