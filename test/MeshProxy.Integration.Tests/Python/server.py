# Upstreams on Python: grpcio and websockets, each where it is installed. Prints one line with their ports (0: missing) and serves until it is ended.
import asyncio
import json
import threading
from concurrent import futures

from shapes import decode, encode

DETAILS = bytes([8, 9, 18, 3, 119, 104, 121])


def start_grpc():
    import grpc

    cancelled = 0
    lock = threading.Lock()

    def count_cancelled():
        nonlocal cancelled
        with lock:
            cancelled += 1

    def unary(item, context):
        text, number = item
        if text == "never":
            ended = threading.Event()
            if context.add_callback(lambda: (count_cancelled(), ended.set())):
                ended.wait(20)
            return "", 0
        if text == "cancelled":
            return text, cancelled
        if text == "metadata":
            sent = dict(context.invocation_metadata())
            context.send_initial_metadata((("x-initial", sent["x-sent"]), ("x-bytes-bin", sent["x-bytes-bin"])))
        trailers = (("x-served-by", "grpcio"),)
        if text == "fail":
            context.set_trailing_metadata(trailers + (("x-reason", "closed"), ("grpc-status-details-bin", DETAILS)))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the account is closed: 100 % sure")
        context.set_trailing_metadata(trailers)
        return text + " back", number + 1

    def down(item, context):
        for i in range(item[1]):
            yield item[0], i

    def up(items, context):
        items = list(items)
        return "".join(text for text, _ in items), sum(number for _, number in items)

    def both(items, context):
        for text, number in items:
            yield text, 2 * number

    def handler(kind, method):
        return getattr(grpc, f"{kind}_rpc_method_handler")(method, decode, encode)

    # Whoever accepts gzip gets gzip.
    server = grpc.server(futures.ThreadPoolExecutor(8), compression=grpc.Compression.Gzip)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("meshproxy.integration.Shapes", {
        "Unary": handler("unary_unary", unary), "Down": handler("unary_stream", down),
        "Up": handler("stream_unary", up), "Both": handler("stream_stream", both),
    }),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


async def serve(grpc_port):
    port = 0
    try:
        import websockets
    except ImportError:
        websockets = None
    if websockets:
        async def echo(socket, path=None):
            async for message in socket:
                if message == "bye":
                    await socket.close(4001, "as you wish")
                else:
                    await socket.send(message)

        server = await websockets.serve(echo, "127.0.0.1", 0, subprotocols=["chat"])
        port = server.sockets[0].getsockname()[1]
    print(json.dumps({"grpc": grpc_port, "ws": port}), flush=True)
    await asyncio.Event().wait()


try:
    grpc_server, bound = start_grpc()
except ImportError:
    grpc_server, bound = None, 0
asyncio.run(serve(bound))
