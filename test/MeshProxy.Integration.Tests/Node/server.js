// Upstreams on Node.js: http, http2 (prior knowledge), ws on the http one, and grpc-js where it is installed. Prints one line with its ports, ends with its standard input's parent.
'use strict';
const http = require('node:http');
const http2 = require('node:http2');
const path = require('node:path');

const listen = server => new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
const gates = new Map();

// One handler for both modules: http2's compatibility layer gives the same objects.
function handle(request, response) {
  const url = request.url.replace(/^\/(h1|h2)/, '');
  const isHttp2 = request.httpVersionMajor === 2;
  if (url === '/hello') {
    response.setHeader('x-version', request.httpVersion);
    response.end('hello from node');
  } else if (url === '/echo') {
    request.pipe(response);
  } else if (url === '/trailers') {
    // Answers with the trailers that it was sent, as trailers.
    request.resume();
    request.on('end', () => {
      response.writeHead(200, isHttp2 ? {} : { trailer: 'x-got, x-sum' });
      response.write('with trailers');
      response.addTrailers({ 'x-got': request.trailers['x-sent'] || 'none', 'x-sum': '42' });
      response.end();
    });
  } else if (url === '/hints') {
    response.writeEarlyHints({ link: '</style.css>; rel=preload' });
    setImmediate(() => response.end('after the hint'));
  } else if (url.startsWith('/stream/')) {
    // The second half goes out when somebody asks for /open/{name}: the first must have arrived by then.
    response.write('first ');
    gates.set(url.slice(8), () => response.end('second'));
  } else if (url.startsWith('/open/')) {
    gates.get(url.slice(6))();
    response.end('opened');
  } else if (url === '/break' || url === '/break-chunked') {
    if (url === '/break') {
      response.setHeader('content-length', '100000');
    }
    response.write('x'.repeat(1000), () => setTimeout(() => isHttp2 ? response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR) : request.socket.resetAndDestroy(), 50));
  } else if (url.startsWith('/bytes/')) {
    let left = Number(url.slice(7));
    response.setHeader('content-length', String(left));
    const more = () => {
      while (left > 0) {
        const piece = Buffer.alloc(Math.min(left, 65536), 'y');
        left -= piece.length;
        if (!response.write(piece) && left > 0) {
          return response.once('drain', more);
        }
      }
      response.end();
    };
    more();
  } else {
    response.writeHead(404);
    response.end();
  }
}

function optional(name) {
  try {
    return require(name);
  } catch {
    return null;
  }
}

async function main() {
  const h1 = http.createServer(handle);
  const ws = optional('ws');
  if (ws) {
    new ws.WebSocketServer({ server: h1, handleProtocols: protocols => protocols.has('chat') ? 'chat' : false }).on('connection', socket => {
      socket.on('message', (data, isBinary) => data.toString() === 'bye' ? socket.close(4001, 'as you wish') : socket.send(data, { binary: isBinary }));
    });
  }

  let grpcPort = 0;
  const grpc = optional('@grpc/grpc-js');
  const loader = optional('@grpc/proto-loader');
  if (grpc && loader) {
    const shapes = grpc.loadPackageDefinition(loader.loadSync(path.join(__dirname, '../Protos/shapes.proto'), { defaults: true })).meshproxy.integration.Shapes;
    const server = new grpc.Server();
    server.addService(shapes.service, {
      Unary(call, done) {
        if (call.request.text === 'fail') {
          const details = new grpc.Metadata();
          details.set('grpc-status-details-bin', Buffer.from([8, 9, 18, 3, 119, 104, 121]));
          details.set('x-reason', 'closed');
          return done({ code: grpc.status.FAILED_PRECONDITION, details: 'the account is closed: 100 % sure', metadata: details });
        }
        if (call.request.text === 'never') {
          call.on('cancelled', () => cancelled++);
          return undefined;
        }
        if (call.request.text === 'cancelled') {
          return done(null, { text: 'cancelled', count: cancelled });
        }
        if (call.request.text === 'metadata') {
          const metadata = new grpc.Metadata();
          metadata.set('x-initial', call.metadata.get('x-sent')[0]);
          metadata.set('x-bytes-bin', call.metadata.get('x-bytes-bin')[0]);
          call.sendMetadata(metadata);
        }
        const trailers = new grpc.Metadata();
        trailers.set('x-served-by', 'grpc-js');
        done(null, { text: `${call.request.text} back`, count: call.request.count + 1 }, trailers);
      },
      Down(call) {
        for (let i = 0; i < call.request.count; i++) {
          call.write({ text: call.request.text, count: i });
        }
        call.end();
      },
      Up(call, done) {
        let text = '', count = 0;
        call.on('data', item => { text += item.text; count += item.count; });
        call.on('end', () => done(null, { text, count }));
      },
      Both(call) {
        call.on('data', item => call.write({ text: item.text, count: item.count * 2 }));
        call.on('end', () => call.end());
      },
    });
    let cancelled = 0;
    grpcPort = await new Promise((resolve, reject) => server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => error ? reject(error) : resolve(port)));
  }

  console.log(JSON.stringify({ h1: await listen(h1), h2: await listen(http2.createServer(handle)), grpc: grpcPort, ws: ws ? h1.address().port : 0 }));
}

process.on('uncaughtException', error => console.error(error));
main();
