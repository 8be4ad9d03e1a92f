// Node.js clients against a proxy: node client.js PORT [MISSING...], where MISSING names upstreams that are not there. One JSON line for each case: name, and error
// when it failed or skipped when something is missing. Hosts: node.shop has Node.js behind it (/h1 over HTTP/1.1, /h2 over HTTP/2), app.shop .NET, python.shop Python.
'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const http = require('node:http');
const http2 = require('node:http2');
const net = require('node:net');
const path = require('node:path');

const port = Number(process.argv[2]);
const agent = new http.Agent({ keepAlive: true });
const both = ['/h1', '/h2'];
const cases = {};

function optional(name) {
  try {
    return require(name);
  } catch {
    throw Object.assign(new Error(`the package ${name} is not installed`), { skipped: true });
  }
}

function needs(upstream) {
  if (process.argv.slice(3).includes(upstream)) {
    throw Object.assign(new Error(`the server ${upstream} is not installed`), { skipped: true });
  }
}

async function collect(stream) {
  const pieces = [];
  for await (const piece of stream) {
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function request1(path, options = {}) {
  return http.request({ port, host: '127.0.0.1', agent, path, headers: { host: 'node.shop', ...options.headers }, method: options.method || 'GET' });
}

async function get1(path, options) {
  const request = request1(path, options);
  // Without a listener an error behind the head would end the process; whoever reads the body hears of it too.
  request.on('error', () => { });
  request.end(options?.body);
  const [response] = await once(request, 'response');
  return { response, body: await collect(response) };
}

let session;
async function connect2() {
  if (!session) {
    session = http2.connect(`http://127.0.0.1:${port}`);
    await once(session, 'remoteSettings');
  }
  return session;
}

async function request2(path, headers = {}, options = {}) {
  return (await connect2()).request({ ':path': path, ':authority': 'node.shop', ...headers }, options);
}

async function get2(path, headers, body) {
  const stream = await request2(path, headers);
  const head = once(stream, 'response');
  stream.end(body);
  const [response] = await head;
  return { response, body: await collect(stream), stream };
}

cases['http keep-alive'] = async () => {
  for (let i = 0; i < 20; i++) {
    const { response, body } = await get1(both[i % 2] + '/hello');
    assert.equal(response.statusCode, 200);
    assert.equal(response.headers['x-version'], ['1.1', '2.0'][i % 2]);
    assert.equal(body.toString(), 'hello from node');
  }
};

cases['http2 streams'] = async () => {
  const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => get2(both[i % 2] + '/hello')));
  assert(answers.every(answer => answer.response[':status'] === 200 && answer.body.toString() === 'hello from node'));
};

for (const [name, send] of [['http', (path, body) => get1(path, { method: 'POST', body })], ['http2', (path, body) => get2(path, { ':method': 'POST' }, body)]]) {
  cases[`${name} large bodies both ways`] = async () => {
    const sent = Buffer.alloc(2_000_000, 'abcdefghijk');
    for (const upstream of both) {
      assert((await send(upstream + '/echo', sent)).body.equals(sent), upstream);
    }
  };
}

cases['http trailers both ways'] = async () => {
  for (const upstream of both) {
    const request = request1(upstream + '/trailers', { method: 'POST', headers: { 'transfer-encoding': 'chunked', trailer: 'x-sent', te: 'trailers' } });
    request.write('body');
    request.addTrailers({ 'x-sent': 'yes' });
    request.end();
    const [response] = await once(request, 'response');
    await collect(response);
    assert.deepEqual({ ...response.trailers }, { 'x-got': 'yes', 'x-sum': '42' }, upstream);
  }
};

cases['http2 trailers both ways'] = async () => {
  for (const upstream of both) {
    const stream = await request2(upstream + '/trailers', { ':method': 'POST', te: 'trailers' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sent': 'yes' }));
    let trailers = {};
    stream.on('trailers', headers => { trailers = headers; });
    stream.end('body');
    assert.equal((await collect(stream)).toString(), 'with trailers', upstream);
    assert.equal(`${trailers['x-got']} ${trailers['x-sum']}`, 'yes 42', upstream);
  }
};

cases['http early hints'] = async () => {
  for (const upstream of both) {
    const request = request1(upstream + '/hints');
    const hint = once(request, 'information');
    request.end();
    const [response] = await once(request, 'response');
    assert.equal((await collect(response)).toString(), 'after the hint');
    const [information] = await hint;
    assert.equal(information.statusCode, 103, upstream);
    assert.equal(information.headers.link, '</style.css>; rel=preload', upstream);
  }
};

cases['http2 early hints'] = async () => {
  for (const upstream of both) {
    const stream = await request2(upstream + '/hints');
    const hints = [];
    stream.on('headers', headers => hints.push(headers));
    assert.equal((await collect(stream)).toString(), 'after the hint');
    assert.equal(hints.map(hint => `${hint[':status']} ${hint.link}`).join(), '103 </style.css>; rel=preload', upstream);
  }
};

cases['http expect continue'] = async () => {
  for (const upstream of both) {
    const request = request1(upstream + '/echo', { method: 'POST', headers: { expect: '100-continue', 'content-length': '5' } });
    request.flushHeaders();
    await once(request, 'continue');
    request.end('hello');
    const [response] = await once(request, 'response');
    assert.equal((await collect(response)).toString(), 'hello', upstream);
  }
};

// Gives the first piece when it is there, and the rest when the stream has ended.
function inTwo(stream) {
  const pieces = [];
  stream.on('data', piece => pieces.push(piece));
  return {
    first: once(stream, 'data').then(() => Buffer.concat(pieces).toString()),
    all: once(stream, 'end').then(() => Buffer.concat(pieces).toString()),
  };
}

cases['streaming'] = async () => {
  for (const upstream of both) {
    const request = request1(`${upstream}/stream/one${upstream.slice(1)}`);
    request.end();
    const [response] = await once(request, 'response');
    const one = inTwo(response);
    assert.equal(await one.first, 'first ', upstream);
    await get1(`${upstream}/open/one${upstream.slice(1)}`);
    assert.equal(await one.all, 'first second', upstream);

    const two = inTwo(await request2(`${upstream}/stream/two${upstream.slice(1)}`));
    assert.equal(await two.first, 'first ', upstream);
    await get2(`${upstream}/open/two${upstream.slice(1)}`);
    assert.equal(await two.all, 'first second', upstream);
  }
};

cases['http a broken response is seen as broken'] = async () => {
  for (const path of ['/h1/break', '/h1/break-chunked', '/h2/break', '/h2/break-chunked']) {
    await assert.rejects(get1(path), undefined, path);
  }
};

cases['http2 a broken response is seen as broken'] = async () => {
  for (const path of ['/h1/break', '/h1/break-chunked', '/h2/break', '/h2/break-chunked']) {
    await assert.rejects(get2(path), undefined, path);
  }
  assert.equal((await get2('/h1/hello')).response[':status'], 200, 'the connection goes on');
};

cases['slow reader'] = async () => {
  for (const upstream of both) {
    const stream = await request2(upstream + '/bytes/6000000');
    const [response] = await once(stream, 'response');
    assert.equal(response['content-length'], '6000000');
    stream.pause();
    // Its neighbours do not wait for it.
    for (let i = 0; i < 30; i++) {
      assert.equal((await get2(both[i % 2] + '/hello')).body.toString(), 'hello from node');
    }
    stream.resume();
    assert.equal((await collect(stream)).length, 6_000_000, upstream);
  }
};

cases['http2 a cancelled request is no harm'] = async () => {
  for (const upstream of both) {
    const stream = await request2(upstream + '/bytes/6000000');
    await once(stream, 'data');
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await once(stream, 'close');
    assert.equal((await get2(upstream + '/hello')).response[':status'], 200);
  }
};

cases['undici pipelines'] = async () => {
  const { Client } = optional('undici');
  const client = new Client(`http://127.0.0.1:${port}`, { pipelining: 8 });
  const answers = await Promise.all(Array.from({ length: 64 }, (_, i) => client.request({ path: both[i % 2] + '/echo', method: 'PUT', headers: { host: 'node.shop' }, body: `body ${i}` }).then(answer => answer.body.text())));
  await client.close();
  assert.deepEqual(answers, Array.from({ length: 64 }, (_, i) => `body ${i}`));
};

for (const [server, upstream, url, host] of [['ws', 'node-ws', '/h1/chat', 'node.shop'], ['websockets', 'python-ws', '/chat', 'python.shop']]) {
  cases[`ws to ${server}`] = async () => {
    needs(upstream);
    const { WebSocket } = optional('ws');
    const socket = new WebSocket(`ws://127.0.0.1:${port}${url}`, ['chat'], { headers: { host } });
    await once(socket, 'open');
    assert.equal(socket.protocol, 'chat');
    socket.send('text');
    assert.equal((await once(socket, 'message'))[0].toString(), 'text');
    const large = Buffer.alloc(300_000, 'z');
    socket.send(large);
    assert((await once(socket, 'message'))[0].equals(large));
    socket.ping('are you there');
    assert.equal((await once(socket, 'pong'))[0].toString(), 'are you there');
    socket.send('bye');
    const [code, reason] = await once(socket, 'close');
    assert.equal(`${code} ${reason}`, '4001 as you wish');
  };
}

cases['a browser\'s WebSocket'] = async () => {
  // undici's is the one that Node and browsers' test suites share. Its name is not to be resolved, so the connection is made here.
  const { Agent, WebSocket } = optional('undici');
  needs('node-ws');
  const dispatcher = new Agent({ connect: (_, done) => { const connection = net.connect(port, '127.0.0.1', () => done(null, connection)); } });
  const socket = new WebSocket('ws://node.shop/h1/ws', { dispatcher });
  socket.binaryType = 'arraybuffer';
  await once(socket, 'open');
  socket.send('text');
  assert.equal((await once(socket, 'message'))[0].data, 'text');
  socket.send(new Uint8Array(70_000).fill(7));
  const [{ data }] = await once(socket, 'message');
  assert.equal(new Uint8Array(data).filter(byte => byte === 7).length, 70_000);
  socket.send('bye');
  const [event] = await once(socket, 'close');
  assert.equal(`${event.code} ${event.reason} ${event.wasClean}`, '4001 as you wish true');
};

cases['WebSocket over HTTP/2'] = async () => {
  optional('ws');
  const session = await connect2();
  assert.equal(session.remoteSettings.enableConnectProtocol, true);
  const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'http', ':path': '/h1/chat', ':authority': 'node.shop', 'sec-websocket-version': '13', 'sec-websocket-protocol': 'chat' }, { endStream: false });
  const [head] = await once(stream, 'response');
  assert.equal(head[':status'], 200);
  assert.equal(head['sec-websocket-protocol'], 'chat');
  assert.equal(head['sec-websocket-accept'], undefined);
  // A masked text frame (RFC 6455 section 5.2) with a mask of zeros, and its echo.
  stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
  assert.deepEqual((await once(stream, 'data'))[0], Buffer.from([0x81, 0x02, 0x68, 0x69]));
  stream.write(Buffer.from([0x81, 0x83, 0, 0, 0, 0, 0x62, 0x79, 0x65]));
  const [close] = await once(stream, 'data');
  assert.equal(close.subarray(0, 4).toString('hex'), '880d0fa1');
  stream.end(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa1]));
  await once(stream, 'close');
  assert.equal((await get2('/h1/hello')).response[':status'], 200, 'the connection goes on');
};

function shapes(host, options = {}) {
  const grpc = optional('@grpc/grpc-js');
  const loader = optional('@grpc/proto-loader');
  const Shapes = grpc.loadPackageDefinition(loader.loadSync(path.join(__dirname, '../Protos/shapes.proto'), { defaults: true })).meshproxy.integration.Shapes;
  return { grpc, client: new Shapes(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), { 'grpc.default_authority': host, ...options }) };
}

const unary = (client, item, ...more) => new Promise((resolve, reject) => client.Unary(item, ...more, (error, answer) => error ? reject(error) : resolve(answer)));

for (const [host, server, upstream] of [['node.shop', 'grpc-js', 'node-grpc'], ['app.shop', '.NET', 'app'], ['python.shop', 'grpcio', 'python-grpc']]) {
  cases[`grpc-js to ${server}: four shapes`] = async () => {
    needs(upstream);
    const { client } = shapes(host);
    assert.deepEqual(await unary(client, { text: 'js', count: 1 }), { text: 'js back', count: 2 });
    const down = [];
    for await (const item of client.Down({ text: 'd', count: 200 })) {
      down.push(item.count);
    }
    assert.equal(down.length, 200);
    const sum = await new Promise((resolve, reject) => {
      const call = client.Up((error, answer) => error ? reject(error) : resolve(answer));
      for (let i = 0; i < 100; i++) {
        call.write({ text: 'u', count: i });
      }
      call.end();
    });
    assert.deepEqual(sum, { text: 'u'.repeat(100), count: 4950 });
    const call = client.Both();
    for (let i = 0; i < 20; i++) {
      call.write({ text: 'b', count: i });
      assert.equal((await once(call, 'data'))[0].count, 2 * i);
    }
    call.end();
    call.resume();
    await once(call, 'end');
    client.close();
  };

  cases[`grpc-js to ${server}: an error and its trailers`] = async () => {
    needs(upstream);
    const { grpc, client } = shapes(host);
    const error = await unary(client, { text: 'fail' }).then(() => assert.fail('it succeeded'), failure => failure);
    assert.equal(error.code, grpc.status.FAILED_PRECONDITION);
    assert.equal(error.details, 'the account is closed: 100 % sure');
    assert.equal(error.metadata.get('x-reason')[0], 'closed');
    client.close();
  };

  cases[`grpc-js to ${server}: large messages, compressed and not`] = async () => {
    needs(upstream);
    const text = Array.from({ length: 450_000 }, (_, i) => i).join(' ');
    for (const algorithm of [0, 2]) {
      const { client } = shapes(host, { 'grpc.default_compression_algorithm': algorithm });
      const answer = await unary(client, { text, count: 7 });
      assert.equal(answer.count, 8);
      assert(answer.text === `${text} back`);
      client.close();
    }
  };

  if (upstream === 'app') {
    continue;
  }

  cases[`grpc-js to ${server}: metadata and error details`] = async () => {
    needs(upstream);
    const { grpc, client } = shapes(host);
    const sent = new grpc.Metadata();
    sent.set('x-sent', 'value');
    sent.set('x-bytes-bin', Buffer.from([0, 255, 10]));
    const call = client.Unary({ text: 'metadata' }, sent, () => { });
    const [got] = await once(call, 'metadata');
    assert.equal(got.get('x-initial')[0], 'value');
    assert.deepEqual(got.get('x-bytes-bin')[0], Buffer.from([0, 255, 10]));
    const [status] = await once(call, 'status');
    assert.equal(status.metadata.get('x-served-by')[0], server);
    const error = await unary(client, { text: 'fail' }).catch(failure => failure);
    assert.deepEqual(error.metadata.get('grpc-status-details-bin')[0], Buffer.from([8, 9, 18, 3, 119, 104, 121]));
    client.close();
  };

  cases[`grpc-js to ${server}: deadline and cancellation reach the server`] = async () => {
    needs(upstream);
    const { grpc, client } = shapes(host);
    const { count: before } = await unary(client, { text: 'cancelled' });
    const late = await unary(client, { text: 'never' }, new grpc.Metadata(), { deadline: Date.now() + 300 }).catch(failure => failure);
    assert.equal(late.code, grpc.status.DEADLINE_EXCEEDED);
    const call = client.Unary({ text: 'never' }, () => { });
    call.on('error', () => { });
    setTimeout(() => call.cancel(), 100);
    const [status] = await once(call, 'status');
    assert.equal(status.code, grpc.status.CANCELLED);
    for (let tries = 0; tries < 100; tries++) {
      if ((await unary(client, { text: 'cancelled' })).count === before + 2) {
        return client.close();
      }
      await new Promise(resolve => setTimeout(resolve, 50));
    }
    assert.fail('the server never heard of both');
  };
}

async function main() {
  for (const [name, run] of Object.entries(cases)) {
    let timer;
    const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('not done after 20 s')), 20_000); });
    try {
      await Promise.race([run(), late]);
      console.log(JSON.stringify({ name }));
    } catch (error) {
      console.log(JSON.stringify({ name, [error.skipped ? 'skipped' : 'error']: error.skipped ? error.message : error.stack }));
    } finally {
      clearTimeout(timer);
    }
  }
  process.exit(0);
}

if (process.argv[2] === '--list') {
  console.log(Object.keys(cases).join('\n'));
} else {
  main();
}
