# The one message of shapes.proto, as (text, count): nothing needs to be generated.


def _varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return number, at


def encode(item):
    text, count = item
    data = text.encode()
    return (b"\x0a" + _varint(len(data)) + data if data else b"") + (b"\x10" + _varint(count) if count else b"")


def decode(data):
    text, count, at = "", 0, 0
    while at < len(data):
        if data[at] == 0x0a:
            length, at = _read_varint(data, at + 1)
            text = data[at:at + length].decode()
            at += length
        else:
            count, at = _read_varint(data, at + 1)
    return text, count
