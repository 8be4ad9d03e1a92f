# Python clients against a proxy: python3 client.py PORT [MISSING...], where MISSING names upstreams that are not there. One JSON line for each case: name, and
# error when it failed or skipped when something is missing. Hosts: node.shop has Node.js behind it, python.shop server.py, app.shop .NET.
import asyncio
import json
import sys
import threading
import time
import traceback

from shapes import decode, encode

CASES = {}
PORT = sys.argv[1] if len(sys.argv) > 1 else "0"
MISSING = sys.argv[2:]
METHOD = "/meshproxy.integration.Shapes/"


class Skipped(Exception):
    pass


def needs(upstream):
    if upstream in MISSING:
        raise Skipped(f"the server {upstream} is not installed")


def case(name):
    def keep(run):
        CASES[name] = run
        return run
    return keep


class Client:
    def __init__(self, host, **options):
        try:
            import grpc
        except ImportError:
            raise Skipped("python3 has no grpcio")
        self.grpc = grpc
        self.channel = grpc.insecure_channel(f"127.0.0.1:{PORT}", options=[("grpc.default_authority", host), ("grpc.enable_http_proxy", 0)], **options)
        self.unary = self.channel.unary_unary(METHOD + "Unary", encode, decode)
        self.down = self.channel.unary_stream(METHOD + "Down", encode, decode)
        self.up = self.channel.stream_unary(METHOD + "Up", encode, decode)
        self.both = self.channel.stream_stream(METHOD + "Both", encode, decode)


def equal(actual, expected):
    assert actual == expected, f"{actual!r} is not {expected!r}"[:500]


def grpc_cases(host, server, upstream):
    @case(f"grpcio to {server}: four shapes")
    def four_shapes():
        needs(upstream)
        client = Client(host)
        equal(client.unary(("py", 1), timeout=10), ("py back", 2))
        equal([count for _, count in client.down(("d", 200), timeout=10)], list(range(200)))
        equal(client.up((("u", i) for i in range(100)), timeout=10), ("u" * 100, 4950))
        answered = threading.Semaphore(1)

        def questions():
            # The next question waits for the answer: nothing on the way may hold either back.
            for i in range(20):
                assert answered.acquire(timeout=10)
                yield "b", i

        counts = []
        for _, count in client.both(questions(), timeout=10):
            counts.append(count)
            answered.release()
        equal(counts, [2 * i for i in range(20)])

    @case(f"grpcio to {server}: an error and its details")
    def error():
        needs(upstream)
        client = Client(host)
        try:
            client.unary(("fail", 0), timeout=10)
        except client.grpc.RpcError as failure:
            trailers = dict(failure.trailing_metadata())
            equal((failure.code().name, failure.details(), trailers["x-reason"]), ("FAILED_PRECONDITION", "the account is closed: 100 % sure", "closed"))
            if upstream != "app":
                equal(trailers["grpc-status-details-bin"], bytes([8, 9, 18, 3, 119, 104, 121]))
        else:
            assert False, "it succeeded"

    @case(f"grpcio to {server}: large messages, compressed and not")
    def large():
        needs(upstream)
        text = "".join(f"{i} " for i in range(450_000))
        for compression in None, "Gzip", "Deflate":
            if compression == "Deflate" and upstream == "app":
                continue  # ASP.NET Core knows gzip alone.
            client = Client(host)
            how = {"compression": getattr(client.grpc.Compression, compression)} if compression else {}
            equal(client.unary((text, 7), timeout=20, **how), (text + " back", 8))
            equal([count for _, count in client.both(iter([(text, 1), (text, 2)]), timeout=20, **how)], [2, 4])

    if upstream == "app":
        return

    @case(f"grpcio to {server}: metadata")
    def metadata():
        needs(upstream)
        client = Client(host)
        answer, call = client.unary.with_call(("metadata", 0), timeout=10, metadata=(("x-sent", "value"), ("x-bytes-bin", b"\0\xff\n")))
        initial = dict(call.initial_metadata())
        equal((initial["x-initial"], initial["x-bytes-bin"]), ("value", b"\0\xff\n"))
        equal(dict(call.trailing_metadata())["x-served-by"], "grpc-js" if upstream == "node-grpc" else "grpcio")

    @case(f"grpcio to {server}: deadline and cancellation reach the server")
    def cancelled():
        needs(upstream)
        client = Client(host)
        before = client.unary(("cancelled", 0), timeout=10)[1]
        try:
            client.unary(("never", 0), timeout=0.3)
            assert False, "it succeeded"
        except client.grpc.RpcError as failure:
            equal(failure.code().name, "DEADLINE_EXCEEDED")
        call = client.unary.future(("never", 0), timeout=10)
        threading.Timer(0.1, call.cancel).start()
        equal(call.code().name, "CANCELLED")
        for _ in range(100):
            if client.unary(("cancelled", 0), timeout=10)[1] == before + 2:
                return
            time.sleep(0.05)
        assert False, "the server never heard of both"


grpc_cases("node.shop", "grpc-js", "node-grpc")
grpc_cases("python.shop", "grpcio", "python-grpc")
grpc_cases("app.shop", ".NET", "app")


def websocket_case(host, server, upstream, path):
    @case(f"websockets to {server}")
    def run():
        needs(upstream)
        try:
            import websockets
        except ImportError:
            raise Skipped("python3 has no websockets")

        async def talk():
            # The name is not to be resolved: the address is given, and Host says who is meant.
            async with websockets.connect(f"ws://{host}{path}", host="127.0.0.1", port=int(PORT), subprotocols=["chat"]) as socket:
                equal(socket.subprotocol, "chat")
                for message in "text", b"z" * 300_000, "x" * 70_000, "":
                    await socket.send(message)
                    equal(await socket.recv(), message)
                await socket.send(["in ", "three ", "pieces"])
                equal(await socket.recv(), "in three pieces")
                await (await socket.ping(b"are you there"))
                await socket.send("bye")
                try:
                    await socket.recv()
                    assert False, "it is still open"
                except websockets.ConnectionClosed as closed:
                    equal((closed.rcvd.code, closed.rcvd.reason), (4001, "as you wish"))
            # We leave first.
            async with websockets.connect(f"ws://{host}{path}", host="127.0.0.1", port=int(PORT)) as socket:
                await socket.send("text")
                equal(await socket.recv(), "text")
                await socket.close(4002, "enough")
                equal((socket.close_code, socket.close_reason), (4002, "enough"))

        asyncio.run(asyncio.wait_for(talk(), 20))


websocket_case("node.shop", "ws", "node-ws", "/h1/chat")
websocket_case("python.shop", "websockets", "python-ws", "/chat")

if PORT == "--list":
    print("\n".join(CASES))
else:
    for name, run in CASES.items():
        line = {"name": name}
        try:
            run()
        except Skipped as reason:
            line["skipped"] = str(reason)
        except BaseException:
            line["error"] = traceback.format_exc()
        print(json.dumps(line), flush=True)
