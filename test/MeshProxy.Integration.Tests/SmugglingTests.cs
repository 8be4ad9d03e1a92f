using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using MeshProxy.Integration.Tests.Apps;
using MeshProxy.Integration.Tests.Fixture;

namespace MeshProxy.Integration.Tests;

/// <summary>
/// Requests that two servers in a row could understand differently, against the running gateway, with an upstream behind it that writes down what arrives. Each is refused
/// with nothing sent on, or arrives as exactly one request that can only be read one way. A request of another client follows each probe and must get its own answer.
/// </summary>
[TestFixture]
internal sealed class SmugglingTests
{
    private const string Smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

    // Statuses that the client sees | requests that the upstream sees. "x" stands for: refused, by any 4xx or 5xx or by the end of the connection.
    private static readonly (string Name, string Bytes, string Expected)[] s_requests =
    [
        .. Chunked("CL.TE", "Content-Length: 4\r\nTransfer-Encoding: chunked", "x |"),
        .. Chunked("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4", "x |"),
        .. Chunked("CL.TE, length zero", "Content-Length: 0\r\nTransfer-Encoding: chunked", "x |"),
        .. Chunked("TE with a space before the colon", "Transfer-Encoding : chunked", "x |"),
        .. Chunked("TE with a tab before the colon", "Transfer-Encoding\t: chunked", "x |"),
        .. Chunked("TE with a space in front", " Transfer-Encoding: chunked", "x |"),
        .. Chunked("TE folded", "Transfer-Encoding:\r\n chunked", "x |"),
        .. Chunked("TE behind a folded field", "X: y\r\n Transfer-Encoding: chunked", "x |"),
        .. Chunked("TE twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "x |"),
        .. Chunked("TE twice, second unknown", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "x |"),
        .. Chunked("TE chunked, chunked", "Transfer-Encoding: chunked, chunked", "x |"),
        .. Chunked("TE identity, chunked", "Transfer-Encoding: identity, chunked", "x |"),
        .. Chunked("TE gzip, chunked", "Transfer-Encoding: gzip, chunked", "x |"),
        .. Chunked("TE chunked, identity", "Transfer-Encoding: chunked, identity", "x |"),
        .. Chunked("TE identity", "Transfer-Encoding: identity", "x |"),
        .. Chunked("TE xchunked", "Transfer-Encoding: xchunked", "x |"),
        .. Chunked("TE quoted", "Transfer-Encoding: \"chunked\"", "x |"),
        .. Chunked("TE with parameters", "Transfer-Encoding: chunked;q=1", "x |"),
        .. Chunked("TE with a comma behind", "Transfer-Encoding: chunked,", "x |"),
        .. Chunked("TE with a comma in front", "Transfer-Encoding: ,chunked", "x |"),
        .. Chunked("TE empty", "Transfer-Encoding:", "x |"),
        .. Chunked("TE with a vertical tab", "Transfer-Encoding: \vchunked", "x |"),
        .. Chunked("TE with a form feed", "Transfer-Encoding: \fchunked", "x |"),
        .. Chunked("TE with NUL", "Transfer-Encoding: chunked\0", "x |"),
        .. Chunked("TE with a bare CR", "Transfer-Encoding: chunked\rX: y", "x |"),
        .. Chunked("TE behind a bare LF", "X: y\nTransfer-Encoding: chunked", "x |"),
        .. Chunked("TE with 0x85", "Transfer-Encoding: chunked\u0085", "x |"),
        .. Chunked("TE with 0xA0", "Transfer-Encoding:\u00a0chunked", "x |"),
        .. Chunked("TE name with NUL", "Transfer-Encoding\0: chunked", "x |"),
        .. Chunked("TE name with 0x8b", "Transfer\u008b-Encoding: chunked", "x |"),
        .. Chunked("TE in upper case", "TRANSFER-ENCODING: CHUNKED", "200 | POST /p body"),
        .. Chunked("TE with tabs around", "Transfer-Encoding:\tchunked\t", "200 | POST /p body"),
        .. Chunked("TE underscore is another field", "Transfer_Encoding: chunked\r\nTransfer-Encoding: chunked", "200 | POST /p body"),
        .. Chunked("TE named by Connection", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", "? POST /p body"),
        ("TE in HTTP/1.0", $"POST /p HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{Smuggled}", "x |"),

        .. Length("CL twice", "Content-Length: 4\r\nContent-Length: 4", "x |"),
        .. Length("CL twice, differing", "Content-Length: 4\r\nContent-Length: 40", "x |"),
        .. Length("CL as a list", "Content-Length: 4, 4", "x |"),
        .. Length("CL with a sign", "Content-Length: +4", "x |"),
        .. Length("CL negative", "Content-Length: -4", "x |"),
        .. Length("CL hexadecimal", "Content-Length: 0x4", "x |"),
        .. Length("CL with a fraction", "Content-Length: 4.0", "x |"),
        .. Length("CL with an exponent", "Content-Length: 4e0", "x |"),
        .. Length("CL with a space inside", "Content-Length: 4 0", "x |"),
        .. Length("CL with an underscore", "Content-Length: 0_4", "x |"),
        .. Length("CL empty", "Content-Length:", "x |"),
        .. Length("CL too large for 64 bits", "Content-Length: 18446744073709551620", "x |"),
        .. Length("CL overlong", "Content-Length: 0000000000000000000000000000004", "x |"),
        .. Length("CL with a space before the colon", "Content-Length : 4", "x |"),
        .. Length("CL folded", "Content-Length:\r\n 4", "x |"),
        .. Length("CL with NUL", "Content-Length: 4\0", "x |"),
        .. Length("CL in other digits", "Content-Length: \u00b2", "x |"),
        .. Length("CL named by Connection", "Connection: Content-Length\r\nContent-Length: 4", "? POST /p body"),
        .. Length("CL", "Content-Length: 4", "200 | POST /p body"),
        .. Length("CL with spaces around", "Content-Length:  4 \t", "200 | POST /p body"),

        .. Body("chunk size with 0x", "0x4\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size with a sign", "+4\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size negative", "-1\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size with a space in front", " 4\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size with a space behind", "4 \r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size with an underscore", "0_4\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size empty", "\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size beyond 64 bits", "10000000000000004\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size of an extension alone", ";x\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size ended by LF", "4\nbody\r\n0\r\n\r\n"),
        .. Body("chunk size ended by CR", "4\rbody\r\n0\r\n\r\n"),
        .. Body("chunk extension with LF", $"4;x\nbody\r\n0\r\n\r\n"),
        .. Body("chunk extension with CR", $"4;x\rX\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk extension with NUL", "4;x\0\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk extension too long", $"4;{new string('x', 4000)}\r\nbody\r\n0\r\n\r\n"),
        .. Body("chunk data ended by LF", "4\r\nbody\n0\r\n\r\n"),
        .. Body("chunk data ended by CR", "4\r\nbody\r0\r\n\r\n"),
        .. Body("chunk data not ended", "4\r\nbody0\r\n\r\n"),
        .. Body("chunk data too long", "3\r\nbody\r\n0\r\n\r\n"),
        .. Body("trailer with a space before the colon", "0\r\nX : y\r\n\r\n"),
        .. Body("trailer folded", "0\r\nX: y\r\n z\r\n\r\n"),
        .. Body("trailer without a colon", "0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        .. Body("trailer with a bare LF", "0\r\nX: y\nZ: a\r\n\r\n"),
        .. Body("trailers ended by LF", "0\r\nX: y\r\n\n"),
        ("chunk extension is dropped", "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nbody\r\n0;z\r\n\r\n", "200 | POST /p body"),
        ("trailers that frame are dropped", "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: b\r\nX-Meshproxy-Failure: UF\r\n\r\n", "200 | POST /p body"),
        ("GET with a length", "GET /p HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", "200 | GET /p body"),
        ("GET with a request as its body", $"GET /p HTTP/1.1\r\nHost: a\r\nContent-Length: {Smuggled.Length}\r\n\r\n{Smuggled}", $"200 | GET /p {Smuggled}"),
        ("POST without a length", "POST /p HTTP/1.1\r\nHost: a\r\n\r\n", "200 | POST /p"),
        ("POST without a length, then a request", "POST /p HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n", "200 200 | POST /p, GET /second"),
        ("body shorter than its length", "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nbody", "x |"),
        ("chunks that break off", "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", "x |"),
        ("chunks without the last empty line", "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n", "x |"),

        ("no Host", "GET /p HTTP/1.1\r\n\r\n", "x |"),
        ("two Hosts", "GET /p HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "x |"),
        ("two Hosts alike", "GET /p HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "x |"),
        ("Host as a list", "GET /p HTTP/1.1\r\nHost: a, b\r\n\r\n", "x |"),
        ("Host empty", "GET /p HTTP/1.1\r\nHost:\r\n\r\n", "x |"),
        ("Host with user information", "GET /p HTTP/1.1\r\nHost: b@a\r\n\r\n", "x |"),
        ("Host with a path", "GET /p HTTP/1.1\r\nHost: a/b\r\n\r\n", "x |"),
        ("Host with a space", "GET /p HTTP/1.1\r\nHost: a b\r\n\r\n", "x |"),
        ("Host with a bad port", "GET /p HTTP/1.1\r\nHost: a:b\r\n\r\n", "x |"),
        ("Host with a port too large", "GET /p HTTP/1.1\r\nHost: a:65536\r\n\r\n", "x |"),
        ("Host with a space before the colon", "GET /p HTTP/1.1\r\nHost : a\r\n\r\n", "x |"),
        ("Host folded first", "GET /p HTTP/1.1\r\n Host: b\r\nHost: a\r\n\r\n", "x |"),
        ("absolute form with another Host", "GET http://b/p HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("absolute form with user information", "GET http://a@b/p HTTP/1.1\r\nHost: b\r\n\r\n", "x |"),
        ("absolute form of another scheme", "GET ftp://a/p HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("absolute form", "GET http://a/p HTTP/1.1\r\nHost: a\r\n\r\n", "200 | GET /p"),
        ("absolute form, other case, default port", "GET HTTP://A:80/p HTTP/1.1\r\nHost: a\r\n\r\n", "200 | GET /p"),
        ("X-Forwarded-Host moves nothing", "GET /p HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: b\r\n\r\n", "200 | GET /p"),

        ("two spaces in the request line", "GET  /p HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("tab in the request line", "GET\t/p HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("space in the target", "GET /p HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("space in front of the request line", " GET /p HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("control character in the target", "GET /p\u0001 HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("fragment in the target", "GET /p#f HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("octet above 127 in the target", "GET /\u00e9 HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("target without a slash", "GET p HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("request line ended by LF", "GET /p HTTP/1.1\nHost: a\r\n\r\n", "x |"),
        ("head ended by LF", "GET /p HTTP/1.1\r\nHost: a\r\n\n", "x |"),
        ("bare CR in the head", "GET /p HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", "x |"),
        ("HTTP/0.9", "GET /p\r\n\r\n", "x |"),
        ("version 1.2 is served as 1.1", "GET /p HTTP/1.2\r\nHost: a\r\n\r\n", "200 | GET /p"),
        ("version 2.0", "GET /p HTTP/2.0\r\nHost: a\r\n\r\n", "x |"),
        ("version in lower case", "GET /p http/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("version with a leading zero", "GET /p HTTP/01.1\r\nHost: a\r\n\r\n", "x |"),
        ("method with a colon", "GET: /p HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("empty field name", "GET /p HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", "x |"),
        ("field without a colon", "GET /p HTTP/1.1\r\nHost: a\r\nGET /smuggled HTTP/1.1\r\n\r\n", "x |"),
        ("field name with a space", "GET /p HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", "x |"),
        ("field name with a bracket", "GET /p HTTP/1.1\r\nHost: a\r\nX(Y): z\r\n\r\n", "x |"),
        ("field value with DEL", "GET /p HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", "x |"),
        ("an empty line in front", "\r\nGET /p HTTP/1.1\r\nHost: a\r\n\r\n", "200 | GET /p"),
        ("two empty lines in front", "\r\n\r\nGET /p HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + Smuggled, "404 |"),
        ("asterisk with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "x |"),
        ("preface of HTTP/2 in the middle", $"GET /p HTTP/1.1\r\nHost: a\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "200 x | GET /p"),

        ("pipelined", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "200 200 | GET /1, GET /2"),
        ("behind a refused request", "GET /1 HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n" + Smuggled, "x |"),
        ("behind a good and a refused request", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nX: y\r\n\r\n" + Smuggled, "200 x | GET /1"),
        ("behind Connection: close", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + Smuggled, "200 | GET /1"),
        ("behind HTTP/1.0", "GET /1 HTTP/1.0\r\nHost: a\r\n\r\n" + Smuggled, "200 | GET /1"),
        ("upgrade to h2c", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "200 | GET /1"),
        ("an unknown expectation", "POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continuE, x\r\nContent-Length: 4\r\n\r\nbody", "x |"),
        ("Connection names Host", "GET /p HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n", "? GET /p"),
    ];

    // Name, fields of the request in HTTP/2, body, and what may come of it: "x", or the request at the upstream.
    private static readonly (string Name, string[] Fields, string? Body, string Expected)[] s_requests2 =
    [
        ("plain", Get(), null, "200 | GET /p"),
        ("with a body", Post(), "body", "200 | POST /p body"),
        ("H2.CL too short", Post("content-length: 0"), Smuggled, "? POST /p"),
        ("H2.CL too long", Post("content-length: 100"), "body", "x |"),
        ("H2.CL differing", Post("content-length: 4", "content-length: 5"), "body", "x |"),
        ("H2.CL malformed", Post("content-length: +4"), "body", "x |"),
        ("H2.CL as a list", Post("content-length: 4, 4"), "body", "x |"),
        ("H2.TE", Post("transfer-encoding: chunked"), "0\r\n\r\n" + Smuggled, "x |"),
        ("H2.TE identity", Post("transfer-encoding: identity"), "body", "x |"),
        ("connection", Get("connection: close"), null, "x |"),
        ("connection that names", Get("connection: x-secret", "x-secret: 1"), null, "x |"),
        ("keep-alive", Get("keep-alive: timeout=5"), null, "x |"),
        ("proxy-connection", Get("proxy-connection: close"), null, "x |"),
        ("upgrade", Get("upgrade: websocket"), null, "x |"),
        ("te other than trailers", Get("te: gzip"), null, "x |"),
        ("te trailers", Get("te: trailers"), null, "200 | GET /p"),
        ("CRLF in a value", Get("x: y\r\nTransfer-Encoding: chunked"), null, "x |"),
        ("CRLFCRLF in a value", Get($"x: y\r\n\r\n{Smuggled}"), null, "x |"),
        ("LF in a value", Get("x: y\nz: a"), null, "x |"),
        ("CR in a value", Get("x: y\rz"), null, "x |"),
        ("NUL in a value", Get("x: y\0"), null, "x |"),
        ("CRLF in a name", Get("x\r\nz: y"), null, "x |"),
        ("colon in a name", Get("x:z: y"), null, "x |"),
        ("space in a name", Get("x y: z"), null, "x |"),
        ("upper case in a name", Get("X-Upper: z"), null, "x |"),
        ("transfer-encoding in upper case", Post("Transfer-Encoding: chunked"), "0\r\n\r\n", "x |"),
        ("name with a space behind", Post("transfer-encoding : chunked"), "0\r\n\r\n", "x |"),
        ("name empty", Get(": y"), null, "x |"),
        ("value with a space in front", Get("x:  y"), null, "x |"),
        ("unknown pseudo-field", Get(":x: y"), null, "x |"),
        ("pseudo-field behind a field", ["x: y", .. Get()], null, "x |"),
        (":method twice", [":method: POST", .. Get()], null, "x |"),
        (":path twice", [":path: /q", .. Get()], null, "x |"),
        (":status in a request", [":status: 200", .. Get()], null, "x |"),
        ("no :path", Without(":path"), null, "x |"),
        ("no :scheme", Without(":scheme"), null, "x |"),
        ("no :method", Without(":method"), null, "x |"),
        ("no authority at all", Without(":authority"), null, "x |"),
        ("Host in place of :authority", [.. Without(":authority"), "host: a"], null, "200 | GET /p"),
        ("Host that differs", Get("host: b"), null, "x |"),
        ("two Hosts", [.. Without(":authority"), "host: a", "host: b"], null, "x |"),
        (":path with a space", With(":path: /p HTTP/1.1"), null, "x |"),
        (":path with CRLF", With($":path: /p HTTP/1.1\r\nHost: a\r\n\r\n{Smuggled}"), null, "x |"),
        (":path with a fragment", With(":path: /p#f"), null, "x |"),
        (":path without a slash", With(":path: p"), null, "x |"),
        (":path empty", With(":path: "), null, "x |"),
        (":path absolute", With(":path: http://b/p"), null, "x |"),
        (":method with a space", With(":method: GET /smuggled HTTP/1.1"), null, "x |"),
        (":method with CRLF", With(":method: GET / HTTP/1.1\r\nHost: a\r\n\r\nGET"), null, "x |"),
        (":method empty", With(":method: "), null, "x |"),
        (":scheme with CRLF", With(":scheme: http\r\nX: y"), null, "x |"),
        (":scheme with an authority", With(":scheme: http://a/?"), null, "x |"),
        (":authority with CRLF", With(":authority: a\r\nX: y"), null, "x |"),
        (":authority with a space", With(":authority: a b"), null, "x |"),
        (":authority with a path", With(":authority: a/b"), null, "x |"),
        (":authority with user information", With(":authority: b@a"), null, "x |"),
        (":authority as a list", With(":authority: a,b"), null, "x |"),
        (":authority with a bad port", With(":authority: a:b"), null, "x |"),
        ("CONNECT", [":method: CONNECT", ":authority: a:80"], null, "x |"),
        ("cookie crumbs", Get("cookie: a=b", "cookie: c=d"), null, "200 | GET /p"),
        ("x-meshproxy-failure from outside", Get("x-meshproxy-failure: UF; retry=always; x"), null, "200 | GET /p"),
    ];

    // What the upstream answers, and what the client may see of it: status and body, or x.
    private static readonly (string Name, string Bytes, string Expected)[] s_responses =
    [
        ("plain", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok"),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 ok"),
        ("until close", "HTTP/1.1 200 OK\r\n\r\nok", "200 ok"),
        ("both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "502"),
        ("length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "502"),
        ("an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nok", "502"),
        ("a second response behind it", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled", "200 ok"),
        ("a body on 204", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled", "204 "),
        ("a body on 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\nsmuggled", "304 "),
        ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "502"),
        ("bare CR in a value", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok", "502"),
        ("NUL in a value", "HTTP/1.1 200 OK\r\nX: a\0\r\nContent-Length: 2\r\n\r\nok", "502"),
        ("space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "502"),
        ("folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "502"),
        ("no status line", "hello\r\n\r\n", "502"),
        ("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", "502"),
        ("status 999", "HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\nok", "502"),
        ("101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello", "502"),
        ("shorter than its length", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok", "broken"),
        ("a chunk that breaks off", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", "broken"),
        ("a bad chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n", "broken"),
        ("nothing", "", "503"),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-", "503"),
        ("100 first", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok"),
        ("x-meshproxy-failure from an application", "HTTP/1.1 200 OK\r\nX-Meshproxy-Failure: UF; retry=always; x\r\nContent-Length: 2\r\n\r\nok", "200 ok"),
    ];

    private RecordingServer _upstream = null!;
    private RecordingHttp2Server _upstream2 = null!;
    private TestApp _second = null!;
    private TemporaryDirectory _directory = null!;
    private Proxy _gateway = null!;
    private int _port;
    private int _toHttp2;
    private int _toKestrel;
    private int _sentinels;

    [OneTimeSetUp]
    public async Task StartAsync()
    {
        _directory = new TemporaryDirectory();
        _upstream = new RecordingServer([.. s_responses.Select(response => response.Bytes)]);
        _upstream2 = new RecordingHttp2Server();
        _second = await TestApp.StartAsync("second");
        (_port, _toHttp2, _toKestrel) = (FreePorts.Take(), FreePorts.Take(), FreePorts.Take());
        _gateway = await Proxy.StartGatewayAsync(_directory.Write("gateway.yaml",
            Documents.Gateway($"name: one, port: {_port}, protocol: HTTP", $"name: two, port: {_toHttp2}, protocol: HTTP", $"name: three, port: {_toKestrel}, protocol: HTTP")
            + Documents.Static("web", _upstream.Port) + Documents.Route("web", listener: "one")
            + Documents.Static("h2", _upstream2.Port, "kubernetes.io/h2c") + Documents.Route("h2", listener: "two")
            + Documents.Static("kestrel", _second.Http2Port, "kubernetes.io/h2c") + Documents.Route("kestrel", listener: "three")), "--access-log", "none");
    }

    [OneTimeTearDown]
    public async Task StopAsync()
    {
        await _gateway.DisposeAsync();
        await _upstream.DisposeAsync();
        await _upstream2.DisposeAsync();
        await _second.DisposeAsync();
        _directory.Dispose();
    }

    [TestCaseSource(nameof(Requests))]
    [CancelAfter(30_000)]
    public Task Request_over_http1(string bytes, string expected) => JudgeRequestAsync(_port, _upstream.Seen, bytes, expected);

    [TestCaseSource(nameof(Requests))]
    [CancelAfter(30_000)]
    public Task Request_over_http1_to_http2(string bytes, string expected) => JudgeRequestAsync(_toHttp2, _upstream2.Seen, bytes, expected);

    [TestCaseSource(nameof(Requests))]
    [CancelAfter(30_000)]
    public async Task Request_over_http1_to_Kestrel(string bytes, string expected)
    {
        // It knows no /p, so what arrives is answered 404; what it takes for malformed it would reset.
        var statuses = await SendAsync(_toKestrel, bytes);
        var wanted = expected.Split(" |")[0].Replace("200", "404", StringComparison.Ordinal);
        Assert.That(statuses.Replace("x", "404", StringComparison.Ordinal), Is.EqualTo(expected[0] == '?' ? "404" : wanted.Replace("x", "404", StringComparison.Ordinal)));
    }

    [TestCaseSource(nameof(Requests2))]
    [CancelAfter(30_000)]
    public Task Request_over_http2(string[] fields, string? body, string expected) => JudgeRequestAsync(_port, _upstream.Seen, _upstream.Heads, fields, body, expected);

    [TestCaseSource(nameof(Requests2))]
    [CancelAfter(30_000)]
    public Task Request_over_http2_to_http2(string[] fields, string? body, string expected) => JudgeRequestAsync(_toHttp2, _upstream2.Seen, _upstream2.Heads, fields, body, expected);

    [TestCaseSource(nameof(Responses))]
    [CancelAfter(30_000)]
    public async Task Response_to_http1(int number, string expected) => await JudgeResponseAsync(number, expected, System.Net.HttpVersion.Version11);

    [TestCaseSource(nameof(Responses))]
    [CancelAfter(30_000)]
    public async Task Response_to_http2(int number, string expected) => await JudgeResponseAsync(number, expected, System.Net.HttpVersion.Version20);

    private static IEnumerable<TestCaseData> Requests() => s_requests.Select(probe => new TestCaseData(probe.Bytes, probe.Expected).SetArgDisplayNames(probe.Name));

    private static IEnumerable<TestCaseData> Requests2() => s_requests2.Select(probe => new TestCaseData(probe.Fields, probe.Body, probe.Expected).SetArgDisplayNames(probe.Name));

    private static IEnumerable<TestCaseData> Responses() => s_responses.Select((response, i) => new TestCaseData(i, response.Expected).SetArgDisplayNames(response.Name));

    // The field under test, then a body that is right for chunks, then another request that must not be one.
    private static IEnumerable<(string, string, string)> Chunked(string name, string fields, string expected) =>
        [(name, $"POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n4\r\nbody\r\n0\r\n\r\n{(expected == "x |" ? Smuggled : "")}", expected)];

    private static IEnumerable<(string, string, string)> Length(string name, string fields, string expected) =>
        [(name, $"POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nbody{(expected == "x |" ? Smuggled : "")}", expected)];

    private static IEnumerable<(string, string, string)> Body(string name, string body) =>
        [(name, $"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{Smuggled}", "x |")];

    private static string[] Get(params string[] more) => [":method: GET", ":scheme: http", ":path: /p", ":authority: a", .. more];

    private static string[] Post(params string[] more) => [":method: POST", ":scheme: http", ":path: /p", ":authority: a", .. more];

    private static string[] Without(string name) => [.. Get().Where(field => !field.StartsWith($"{name}:", StringComparison.Ordinal))];

    private static string[] With(string field) => [.. Get().Select(old => old.Split(':')[1] == field.Split(':')[1] ? field : old)];

    // What the client saw: the statuses in order, every refusal and an end without an answer as "x".
    private static async Task<string> SendAsync(int port, string bytes)
    {
        await using var stream = await Via.TcpAsync(port);
        await stream.WriteAsync(Encoding.Latin1.GetBytes(bytes));
        stream.Socket.Shutdown(SocketShutdown.Send);
        var text = Encoding.Latin1.GetString(await ReadToEndAsync(stream));
        var statuses = new List<string>();
        for (var at = 0; (at = text.IndexOf("HTTP/1.1 ", at, StringComparison.Ordinal)) >= 0; at += 9)
        {
            var isHead = at == 0 || text[at - 1] != ' ';
            var status = text.Substring(at + 9, 3);
            if (isHead && status[0] != '1')
            {
                statuses.Add(status is "200" or "404" ? status : "x");
            }
        }

        return statuses.Count == 0 ? "x" : string.Join(' ', statuses);
    }

    private static async Task<byte[]> ReadToEndAsync(Stream stream)
    {
        var all = new MemoryStream();
        try
        {
            await stream.CopyToAsync(all);
        }
        catch (IOException)
        {
            // A reset ends the answer too.
        }

        return all.ToArray();
    }

    // "200", or "x" for any other status, a reset stream or the end of the connection.
    private static async Task<string> SendOverHttp2Async(int port, string[] fields, string? body)
    {
        await using var stream = await Via.TcpAsync(port);
        var block = fields.SelectMany(field =>
        {
            // ":path: /p": the separator is the first ": " behind the name's first character.
            var colon = field.IndexOf(": ", 1, StringComparison.Ordinal) is var at and >= 0 ? at : 0;
            var (name, value) = (Encoding.Latin1.GetBytes(field[..colon]), Encoding.Latin1.GetBytes(field[Math.Min(field.Length, colon + 2)..]));
            return (byte[])[0x10, (byte)name.Length, .. name, (byte)value.Length, .. value];
        }).ToArray();
        await stream.WriteAsync((byte[])
        [
            .. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. Frame(4, 0, 0, []), .. Frame(1, body is null ? 5 : 4, 1, block), .. body is null ? [] : Frame(0, 1, 1, Encoding.Latin1.GetBytes(body)),
        ]);
        var head = new byte[9];
        try
        {
            while (true)
            {
                await stream.ReadExactlyAsync(head);
                var payload = new byte[(head[0] << 16) | (head[1] << 8) | head[2]];
                await stream.ReadExactlyAsync(payload);
                if (head[3] is 1 && head[8] == 1)
                {
                    return payload[0] == 0x88 ? "200" : "x";
                }

                if (head[3] is 3 or 7)
                {
                    return "x";
                }
            }
        }
        catch (Exception end) when (end is EndOfStreamException or IOException)
        {
            return "x";
        }

        static byte[] Frame(int type, int flags, int id, byte[] payload) =>
            [0, (byte)(payload.Length >> 8), (byte)payload.Length, (byte)type, (byte)flags, 0, 0, 0, (byte)id, .. payload];
    }

    private async Task JudgeRequestAsync(int port, ConcurrentQueue<string> seen, string bytes, string expected)
    {
        seen.Clear();
        var statuses = await SendAsync(port, bytes);
        await SendSentinelAsync(port);
        var upstream = string.Join(", ", Arrived(seen));
        if (expected.StartsWith("? ", StringComparison.Ordinal))
        {
            // Both are right: refused whole, or one request that can be read one way only.
            Assert.That($"{statuses} | {upstream}", Is.EqualTo($"200 | {expected[2..]}").Or.EqualTo("x | "));
            return;
        }

        Assert.That($"{statuses} | {upstream}".TrimEnd(), Is.EqualTo(expected.TrimEnd()));
    }

    private async Task JudgeRequestAsync(int port, ConcurrentQueue<string> seen, ConcurrentQueue<string> heads, string[] fields, string? body, string expected)
    {
        seen.Clear();
        heads.Clear();
        var status = await SendOverHttp2Async(port, fields, body);
        await SendSentinelAsync(port);
        var both = $"{status} | {string.Join(", ", Arrived(seen))}".TrimEnd();

        // A head may have gone on before the body belied it; then it did so as what it declared, and nothing more.
        Assert.That(both, expected.StartsWith("? ", StringComparison.Ordinal) ? Is.EqualTo("x |").Or.EqualTo($"x | {expected[2..]}") : Is.EqualTo(expected));
        Assert.That(heads.Any(head => head.Contains("x-meshproxy-failure", StringComparison.OrdinalIgnoreCase)), Is.False);
    }

    private static IEnumerable<string> Arrived(IEnumerable<string> seen) => seen.Where(request => !request.Contains("/sentinel", StringComparison.Ordinal) && request != "broken");

    private async Task JudgeResponseAsync(int number, string expected, Version version)
    {
        using var http = Via.Http(_port, version);
        string seen;
        try
        {
            // POST: never sent a second time.
            using var response = await http.PostAsync($"http://a/response/{number.ToString(CultureInfo.InvariantCulture)}", null);
            Assert.That(response.Headers.Contains("x-meshproxy-failure"), Is.False);
            seen = $"{(int)response.StatusCode}{(response.StatusCode < System.Net.HttpStatusCode.InternalServerError ? " " + await response.Content.ReadAsStringAsync() : "")}";
        }
        catch (HttpRequestException)
        {
            seen = "broken";
        }

        Assert.That(seen, Is.EqualTo(expected));
        await SendSentinelAsync(_port);
    }

    // Another client's request behind the probe, over the same upstream connections: it must get the answer to itself.
    private async Task SendSentinelAsync(int port)
    {
        var sentinel = $"/sentinel/{Interlocked.Increment(ref _sentinels)}";
        using var http = Via.Http(port);
        Assert.That(await http.GetStringAsync($"http://a{sentinel}"), Is.EqualTo($"GET {sentinel}"));
    }
}
