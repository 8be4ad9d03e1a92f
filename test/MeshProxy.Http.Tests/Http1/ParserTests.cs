using System.Text;
using MeshProxy.Http.Http1;

namespace MeshProxy.Http.Tests.Http1;

/// <summary>One table of messages, good and bad; every one is fed whole, byte by byte and in one-byte segments, and truncated at every byte.</summary>
public sealed class ParserTests
{
    private const string H = "Host: a\r\n";
    private const string Key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    private static readonly Http1Limits Limits = Http1Limits.Default;

    // Message, and what it must come to. Requests unless the message begins with HTTP/.
    private static readonly (string Message, string Outcome)[] Table =
    [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "body GET http://a / Http11 None 0 body= +0"),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "body GET http://a / Http11 None 0 body= +0"),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "failed 400 invalid_method"),
        ("GET / HTTP/1.0\r\n\r\n", "body GET http:// / Http10 None 0 body= +0"),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "body GET http://a / Http10 None 0 body= +0"),
        ("FOO-bar /x HTTP/1.1\r\n" + H + "\r\n", "body FOO-bar http://a /x Http11 None 0 body= +0"),
        ("GET /?a=\"b|c{d}^`\\ HTTP/1.1\r\n" + H + "\r\n", "body GET http://a /?a=\"b|c{d}^`\\ Http11 None 0 body= +0"),
        ("OPTIONS * HTTP/1.1\r\n" + H + "\r\n", "body OPTIONS http://a * Http11 None 0 body= +0"),
        ("GET * HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET http://a/x?y HTTP/1.1\r\n" + H + "\r\n", "body GET http://a /x?y Http11 None 0 body= +0"),
        ("GET HTTP://A:80 HTTP/1.1\r\n" + H + "\r\n", "body GET http://a / Http11 None 0 body= +0"),
        ("GET http://a?q HTTP/1.1\r\n" + H + "\r\n", "body GET http://a /?q Http11 None 0 body= +0"),
        ("OPTIONS http://a HTTP/1.1\r\n" + H + "\r\n", "body OPTIONS http://a * Http11 None 0 body= +0"),
        ("GET http://b/ HTTP/1.0\r\n\r\n", "body GET http://b / Http10 None 0 body= +0"),
        ("GET http://a:81/ HTTP/1.1\r\n" + H + "\r\n", "failed 400 target_differs_from_host"),
        ("GET http://b/ HTTP/1.1\r\n" + H + "\r\n", "failed 400 target_differs_from_host"),
        ("GET http://u@a/ HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET http:///x HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET https://a/ HTTP/1.1\r\n" + H + "\r\n", "failed 421 target_scheme_differs"),
        ("GET HTTPS://a/ HTTP/1.1\r\n" + H + "\r\n", "failed 421 target_scheme_differs"),
        ("GET ftp://a/ HTTP/1.1\r\n" + H + "\r\n", "failed 400 unsupported_target_scheme"),
        ("GET ://a/ HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET http:/a HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET http://a/#x HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET http://a:80:80/ HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET http://a%00/ HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET http://a HTTP/1.1\r\n\r\n", "failed 400 missing_host"),
        ("GET http://a:0080/ HTTP/1.1\r\nHost: A\r\n\r\n", "body GET http://A / Http11 None 0 body= +0"),
        ("GET //a/b HTTP/1.1\r\n" + H + "\r\n", "body GET http://a //a/b Http11 None 0 body= +0"),
        ("GET ?a HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET *x HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("OPTIONS http://a/ HTTP/1.1\r\n" + H + "\r\n", "body OPTIONS http://a / Http11 None 0 body= +0"),
        ("TRACE / HTTP/1.1\r\n" + H + "\r\n", "body TRACE http://a / Http11 None 0 body= +0"),
        ("TRACE / HTTP/1.1\r\n" + H + "Content-Length: 1\r\n\r\nx", "failed 400 trace_with_body"),
        ("get / HTTP/1.1\r\n" + H + "\r\n", "body get http://a / Http11 None 0 body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Content-Length: 3\r\n\r\nabc", "done GET http://a / Http11 Length 3 [content-length: 3] body=abc +0"),
        ("HEAD / HTTP/1.1\r\n" + H + "Content-Length: 3\r\n\r\nabc", "done HEAD http://a / Http11 Length 3 [content-length: 3] body=abc +0"),
        ("!#$%&'*+-.^_`|~ / HTTP/1.1\r\n" + H + "!#$%&'*+-.^_`|~09aZ: 1\r\n\r\n", "body !#$%&'*+-.^_`|~ http://a / Http11 None 0 [!#$%&'*+-.^_`|~09az: 1] body= +0"),
        ("GET a HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "failed 400 invalid_target"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", "failed 400 target_differs_from_host"),
        ("CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", "failed 400 invalid_target"),

        // Start lines.
        ("GET /\r\n\r\n", "failed 400 invalid_target"),
        ("GET  / HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET / x HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET /  HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET / HTTP/1.1 \r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET\t/ HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_method"),
        (" GET / HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_method"),
        ("G(T / HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_method"),
        ("GET /#f HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET /\xE4 HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET /\0 HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET / http/1.1\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET / HTTP/1.10\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET / HTTP/11\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET / HTTP/1.2\r\n" + H + "\r\n", "body GET http://a / Http11 None 0 body= +0"),
        ("GET / HTTP/1.9\r\n\r\n", "failed 400 missing_host"),
        ("GET / HTTP/0.9\r\n" + H + "\r\n", "failed 505 unsupported_version"),
        ("GET / HTTP/2.0\r\n" + H + "\r\n", "failed 505 unsupported_version"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "failed 505 unsupported_version"),
        ("GET / HTTP/1.\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET / HTTP/1,1\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET / HTTP/ 1.1\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET / HTTP/1.1\t\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET / XHTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_version"),
        ("GET /\r HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET /\x7F HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GET /\t HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_target"),
        ("GE\rT / HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_method"),
        ("GET\r\n\r\n", "failed 400 invalid_method"),
        ("\n\r\nGET / HTTP/1.1\r\n" + H + "\r\n", "failed 400 invalid_method"),
        ("\r\rGET / HTTP/1.1\r\n" + H + "\r\n", "failed 400 bare_cr"),
        ("GET / HTTP/3.0\r\n" + H + "\r\n", "failed 505 unsupported_version"),
        ("GET / HTTP/1.1\n" + H + "\r\n", "failed 400 bare_lf"),
        ("GET / HTTP/1.1\rX", "failed 400 bare_cr"),
        (new string('A', 33) + " / HTTP/1.1\r\n", "failed 501 method_too_long"),
        ("\x16\x03\x01\x02\x00", "failed 400 invalid_method"),

        // Field lines.
        ("GET / HTTP/1.1\r\n" + H + "A: \tb \t\r\nC:\r\nd:e\xE4\tf\r\n\r\n", "body GET http://a / Http11 None 0 [a: b] [c: ] [d: e\xE4\tf] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "A : b\r\n\r\n", "failed 400 white_space_before_colon"),
        ("GET / HTTP/1.1\r\n" + H + "A\t: b\r\n\r\n", "failed 400 white_space_before_colon"),
        ("GET / HTTP/1.1\r\n" + H + " b: c\r\n\r\n", "failed 400 folded_line"),
        ("GET / HTTP/1.1\r\n" + H + "\tb\r\n\r\n", "failed 400 folded_line"),
        ("GET / HTTP/1.1\r\n b: c\r\n" + H + "\r\n", "failed 400 folded_line"),
        ("GET / HTTP/1.1\r\n" + H + ": b\r\n\r\n", "failed 400 empty_field_name"),
        ("GET / HTTP/1.1\r\n" + H + "a\r\n\r\n", "failed 400 invalid_field_name"),
        ("GET / HTTP/1.1\r\n" + H + "a(: b\r\n\r\n", "failed 400 invalid_field_name"),
        ("GET / HTTP/1.1\r\n" + H + "\xE4: b\r\n\r\n", "failed 400 invalid_field_name"),
        ("GET / HTTP/1.1\r\n" + H + "a\0: b\r\n\r\n", "failed 400 invalid_field_name"),
        ("GET / HTTP/1.1\r\n" + H + "a: b\0\r\n\r\n", "failed 400 control_character_in_value"),
        ("GET / HTTP/1.1\r\n" + H + "a: b\x7F\r\n\r\n", "failed 400 control_character_in_value"),
        ("GET / HTTP/1.1\r\n" + H + "a: b\vc\r\n\r\n", "failed 400 control_character_in_value"),
        ("GET / HTTP/1.1\r\n" + H + "a: b\rc\r\n\r\n", "failed 400 bare_cr"),
        ("GET / HTTP/1.1\r\n" + H + "a: b\r\r\n\r\n", "failed 400 bare_cr"),
        ("GET / HTTP/1.1\r\n" + H + "a: b\nc: d\r\n\r\n", "failed 400 bare_lf"),
        ("GET / HTTP/1.1\r\n" + H + "\n", "failed 400 bare_lf"),
        ("GET / HTTP/1.1\r\n" + H + "\r\r\n", "failed 400 bare_cr"),
        ("GET / HTTP/1.1\r\n" + H + "a: b\r\n c\r\n\r\n", "failed 400 folded_line"),
        ("GET / HTTP/1.1\r\n" + H + "a: b\r\n\r\n c", "done GET http://a / Http11 None 0 [a: b] body= +2"),
        ("GET / HTTP/1.1\r\n" + H + "\r: b\r\n\r\n", "failed 400 bare_cr"),
        ("GET / HTTP/1.1\r\n" + H + "a\rb: c\r\n\r\n", "failed 400 invalid_field_name"),
        ("GET / HTTP/1.1\r\n" + H + "a\nb: c\r\n\r\n", "failed 400 bare_lf"),
        ("GET / HTTP/1.1\r\n" + H + "a b: c\r\n\r\n", "failed 400 white_space_before_colon"),
        ("GET / HTTP/1.1\r\n" + H + "a\v: c\r\n\r\n", "failed 400 invalid_field_name"),
        ("GET / HTTP/1.1\r\n" + H + "a: \x01\r\n\r\n", "failed 400 control_character_in_value"),
        ("GET / HTTP/1.1\r\n" + H + "a: \x1F\r\n\r\n", "failed 400 control_character_in_value"),
        ("GET / HTTP/1.1\r\n" + H + "a: \x80\xFF\t\"\\:,\r\n\r\n", "body GET http://a / Http11 None 0 [a: \x80\xFF\t\"\\:,] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "a: \r\na:\t\r\na:b\r\n\r\n", "body GET http://a / Http11 None 0 [a: ] [a: ] [a: b] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Expect: 100-continue\r\n\r\n", "body GET http://a / Http11 None 0 [expect: 100-continue] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Expect: ,100-CONTINUE,\r\nExpect: 100-continue\r\n\r\n",
            "body GET http://a / Http11 None 0 [expect: ,100-CONTINUE,] [expect: 100-continue] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Expect: 200-ok\r\n\r\n", "failed 417 unknown_expectation"),
        ("POST / HTTP/1.1\r\n" + H + "Expect: 100-continue, x=y\r\nContent-Length: 1\r\n\r\na", "failed 417 unknown_expectation"),
        ("GET / HTTP/1.0\r\nExpect: 200-ok\r\n\r\n", "body GET http:// / Http10 None 0 [expect: 200-ok] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Connection: " + string.Concat(Enumerable.Repeat("a,", 100)) + "a\r\n\r\n", "failed 431 too_many_connection_options"),

        // Host.
        ("GET / HTTP/1.1\r\n\r\n", "failed 400 missing_host"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\n" + H + H + "\r\n", "failed 400 several_hosts"),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a%00b\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [a]\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: []\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::1]:\r\n\r\n", "body GET http://[::1]: / Http11 None 0 body= +0"),
        ("GET / HTTP/1.1\r\nHost: [:::]\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [1::2::3]\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [1:2]\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::1.2.3.04]\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::1.2.3]\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::0001]\r\n\r\n", "body GET http://[::0001] / Http11 None 0 body= +0"),
        ("GET / HTTP/1.1\r\nHost: [12345::1]\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::1%25lo]\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::1]@a\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [[::1]]\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]:8080\r\n\r\n", "body GET http://[::ffff:1.2.3.4]:8080 / Http11 None 0 body= +0"),
        ("GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a: 80\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a:000080\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: a%2Fb\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: %C3%A4\r\n\r\n", "body GET http://%C3%A4 / Http11 None 0 body= +0"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "failed 400 white_space_before_colon"),
        ("GET / HTTP/1.1\r\n" + H + "hOsT: a\r\n\r\n", "failed 400 several_hosts"),
        ("GET / HTTP/1.0\r\n" + H + H + "\r\n", "failed 400 several_hosts"),
        ("GET / HTTP/1.0\r\nHost: u@a\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: \xE4\r\n\r\n", "failed 400 invalid_host"),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "body GET http://[::1]:80 / Http11 None 0 body= +0"),
        ("GET / HTTP/1.1\r\nHost: a_b.c-d:8080\r\n\r\n", "body GET http://a_b.c-d:8080 / Http11 None 0 body= +0"),
        ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "body GET http://a: / Http11 None 0 body= +0"),

        // Framing.
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3\r\n\r\nabcGET", "done POST http://a / Http11 Length 3 [content-length: 3] body=abc +3"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 0\r\n\r\n", "body POST http://a / Http11 None 0 [content-length: 0] body= +0"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 003\r\n\r\nabc", "done POST http://a / Http11 Length 3 [content-length: 3] body=abc +0"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n", "failed 400 several_content_lengths"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", "failed 400 several_content_lengths"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3, 3\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: +3\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: -3\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 0x3\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3 3\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length:\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3_0\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3;q=1\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: \"3\"\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3.0\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3e0\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: ,3\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3,\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: \xB2\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3\0\r\n\r\n", "failed 400 control_character_in_value"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: \v3\r\n\r\n", "failed 400 control_character_in_value"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length : 3\r\n\r\n", "failed 400 white_space_before_colon"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length:\t3\t \r\n\r\nabc", "done POST http://a / Http11 Length 3 [content-length: 3] body=abc +0"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 9223372036854775808\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 0000000000000000003\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabcd", "done POST http:// / Http10 Length 3 [content-length: 3] body=abc +1"),
        ("POST / HTTP/1.1\r\n" + H + "Content_Length: 3\r\n\r\nabc", "done POST http://a / Http11 None 0 [content_length: 3] body= +3"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 18446744073709551619\r\n\r\n", "failed 400 invalid_content_length"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "failed 400 content_length_with_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "failed 400 content_length_with_transfer_encoding"),
        ("POST / HTTP/1.0\r\n" + H + "Transfer-Encoding: chunked\r\n\r\n", "failed 400 transfer_encoding_in_http10"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked, chunked\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked, gzip\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding:\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: ,chunked\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked,\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked;q=1\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: \"chunked\"\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\vx\r\n\r\n", "failed 400 control_character_in_value"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding : chunked\r\n\r\n", "failed 400 white_space_before_colon"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding\t: chunked\r\n\r\n", "failed 400 white_space_before_colon"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding:\r\n chunked\r\n\r\n", "failed 400 folded_line"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: x\r\n\tchunked\r\n\r\n", "failed 400 folded_line"),
        ("POST / HTTP/1.1\r\n" + H + "X: y\rTransfer-Encoding: chunked\r\n\r\n", "failed 400 bare_cr"),
        ("POST / HTTP/1.1\r\n" + H + "X: y\nTransfer-Encoding: chunked\r\n\r\n", "failed 400 bare_lf"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\0\r\n\r\n", "failed 400 control_character_in_value"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: \u007Fchunked\r\n\r\n", "failed 400 control_character_in_value"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\xA0\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chun ked\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked chunked\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: 'chunked'\r\n\r\n", "failed 501 unknown_transfer_coding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: [chunked]\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked;\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: identity, chunked\r\n\r\n", "failed 501 unknown_transfer_coding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n", "failed 501 unknown_transfer_coding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding:\tchunked\t\r\n\r\n0\r\n\r\n", "done POST http://a / Http11 Chunked 0 [transfer-encoding: chunked] body= +0"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n", "failed 400 content_length_with_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\n", "failed 400 content_length_with_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Content-Length: 3\r\nConnection: Content-Length\r\n\r\nabc",
            "done POST http://a / Http11 Length 3 [content-length: 3] [connection: Content-Length] body=abc +0"),
        ("POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "failed 400 content_length_with_transfer_encoding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer_Encoding: chunked\r\n\r\n", "body POST http://a / Http11 None 0 [transfer_encoding: chunked] body= +0"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: xchunked\r\n\r\n", "failed 501 unknown_transfer_coding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: gzip, chunked\r\n\r\n", "failed 501 unknown_transfer_coding"),
        ("POST / HTTP/1.1\r\n" + H + "Transfer-Encoding: identity\r\n\r\n", "failed 501 unknown_transfer_coding"),

        // Tunnels.
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: h2c, WebSocket\r\nConnection: x, Upgrade\r\n" + Key + "\r\nraw",
            "body GET http://a / Http11 upgrade=websocket Tunnel 0 [connection: x, Upgrade] [sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==] body=raw +0"),
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: foo/1.2, bar\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
            "body GET http://a / Http11 upgrade=foo/1.2 Tunnel 0 [connection: Upgrade] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            "body GET http://a / Http11 None 0 [connection: Upgrade, HTTP2-Settings] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: websocket\r\n\r\n", "body GET http://a / Http11 None 0 body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Connection: Upgrade\r\n\r\n", "body GET http://a / Http11 None 0 [connection: Upgrade] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: web socket, a/b/c, /, \"x\"\r\nConnection: Upgrade\r\n\r\n", "body GET http://a / Http11 None 0 [connection: Upgrade] body= +0"),
        ("GET / HTTP/1.0\r\n" + H + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "body GET http://a / Http10 None 0 [connection: Upgrade] body= +0"),
        ("POST / HTTP/1.1\r\n" + H + "Upgrade: foo\r\nConnection: Upgrade\r\n\r\n", "body POST http://a / Http11 None 0 [connection: Upgrade] body= +0"),
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: websocket\r\nConnection: Upgrade\r\n" + Key + "Content-Length: 3\r\n\r\nabc",
            "done GET http://a / Http11 Length 3 [connection: Upgrade] [sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==] [content-length: 3] body=abc +0"),
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "failed 400 invalid_websocket_key"),
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: websocket\r\nConnection: Upgrade\r\n" + Key + Key + "\r\n", "failed 400 invalid_websocket_key"),
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: short\r\n\r\n", "failed 400 invalid_websocket_key"),
        ("GET / HTTP/1.1\r\n" + H + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!==\r\n\r\n", "failed 400 invalid_websocket_key"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nraw", "body CONNECT http://a:443  Http11 Tunnel 0 body=raw +0"),
        ("CONNECT a:443 HTTP/1.0\r\n\r\n", "body CONNECT http://a:443  Http10 Tunnel 0 body= +0"),
        ("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nContent-Length: 0\r\n\r\n", "body CONNECT http://[::1]:443  Http11 Tunnel 0 body= +0"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nContent-Length: 3\r\n\r\nabc", "failed 400 connect_with_body"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "failed 400 connect_with_body"),
        ("CONNECT a:0 HTTP/1.1\r\nHost: a:0\r\n\r\n", "failed 400 invalid_target"),
        ("CONNECT a: HTTP/1.1\r\nHost: a:\r\n\r\n", "failed 400 invalid_target"),
        ("CONNECT http://a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "failed 400 invalid_target"),

        // Chunks.
        (Chunked("3\r\nabc\r\n0\r\n\r\n"), "done P http://a / Http11 Chunked 0 [transfer-encoding: CHUNKED] body=abc +0"),
        (Chunked("00A\r\n0123456789\r\n1;x=\"y\";z\r\n!\r\n000\r\nX: 1\r\nHost: b\r\nContent-Length: 3\r\n\r\nGET"),
            "done P http://a / Http11 Chunked 0 [transfer-encoding: CHUNKED] body=0123456789! +3 [x: 1]"),
        (Chunked("1 ;a\r\nx\r\n0\r\n\r\n"), "done P http://a / Http11 Chunked 0 [transfer-encoding: CHUNKED] body=x +0"),
        (Chunked("\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("0x3\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("+3\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("-1\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked(" 3\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("3 \r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("3\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("g\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked(";a\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("FFFFFFFFFFFFFFFF\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("0000000000000003\r\nabc"), "body failed 400 invalid_chunk_size"),
        (Chunked("3\rabc"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("3\r\nabcd\r\n"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("3\r\nabc\n0\r\n"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("3\r\nabc\rx"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("3;a\nb\r\nabc"), "body failed 400 invalid_chunk_extension"),
        (Chunked("3;a\0\r\nabc"), "body failed 400 invalid_chunk_extension"),
        (Chunked("3;a\rb\r\nabc"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("3;" + new string('x', 300)), "body failed 413 chunk_extensions_too_large"),
        (Chunked("0\r\nx: 1\n\r\n"), "body failed 400 bare_lf"),
        (Chunked("0\r\n x\r\n\r\n"), "body failed 400 folded_line"),
        (Chunked("0\r\n\n"), "body failed 400 bare_lf"),
        (Chunked("1\t;a\t=\t\"b;\\\"c\"\t;\td=e\r\nx\r\n0;last\r\n\r\n"), "done P http://a / Http11 Chunked 0 [transfer-encoding: CHUNKED] body=x +0"),
        (Chunked("1;a=\"\xE4\t \\\xE4\"\r\nx\r\n0\r\n\r\n"), "done P http://a / Http11 Chunked 0 [transfer-encoding: CHUNKED] body=x +0"),
        (Chunked("1;\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;;a\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;=a\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a=\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a=b=c\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a \r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a b\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a=\"b\"c\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a=\"b\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a=\"b\\\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;\xE4\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a=[b]\r\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a\n\nx\r\n"), "body failed 400 invalid_chunk_extension"),
        (Chunked("1;a\r\r\nx\r\n"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("0X3\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("3h\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("3.\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("3_0\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("3,4\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("\t3\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("3\v\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("3\0\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("\n3\r\nabc\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("10000000000000003\r\nabc"), "body failed 400 invalid_chunk_size"),
        (Chunked("3\r\nabc"), "body P http://a / Http11 Chunked 0 [transfer-encoding: CHUNKED] body=abc +0"),
        (Chunked("3\r\nab\r\n0\r\n\r\n"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("3\r\nabc0\r\n\r\n"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("3\r\nabc\r\r\n0\r\n\r\n"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("3\r\nabc\r\n\r\n0\r\n\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("0\n\r\n"), "body failed 400 invalid_chunk_size"),
        (Chunked("0\r\r\n\r\n"), "body failed 400 invalid_chunk_terminator"),
        (Chunked("0\r\n\r\r\n"), "body failed 400 bare_cr"),
        (Chunked("0\r\nx y: 1\r\n\r\n"), "body failed 400 white_space_before_colon"),
        (Chunked("0\r\nx\r\n\r\n"), "body failed 400 invalid_field_name"),
        (Chunked("0\r\n: x\r\n\r\n"), "body failed 400 empty_field_name"),
        (Chunked("0\r\nx: \0\r\n\r\n"), "body failed 400 control_character_in_value"),
        (Chunked("0\r\nx: a\rb\r\n\r\n"), "body failed 400 bare_cr"),
        (Chunked("0\r\nx: 1\r\n y\r\n\r\n"), "body failed 400 folded_line"),
        (Chunked("0\r\nTransfer-Encoding: chunked\r\nCONTENT-LENGTH: 9\r\nconnection: close\r\nCookie: a\r\nok: 1\r\n\r\n"),
            "done P http://a / Http11 Chunked 0 [transfer-encoding: CHUNKED] body= +0 [ok: 1]"),

        // Responses.
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "done 200 Http11 Length 2 [content-length: 2] body=ok +0"),
        ("HTTP/1.1 200 \r\n\r\nok", "body 200 Http11 UntilClose 0 body=ok +0"),
        ("HTTP/1.1 200\r\n\r\nok", "body 200 Http11 UntilClose 0 body=ok +0"),
        ("HTTP/1.0 404 Not\tFound \xE4\r\n\r\n", "body 404 Http10 UntilClose 0 body= +0"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "body 204 Http11 None 0 body= +0"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "body 304 Http11 None 0 [content-length: 5] body= +0"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "body 100 Http11 None 0 body= +0"),
        ("HTTP/1.1 20 OK\r\n\r\n", "failed 400 invalid_status_line"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "failed 400 invalid_status_line"),
        ("HTTP/1.1  200 OK\r\n\r\n", "failed 400 invalid_status_line"),
        ("HTTP/1.1 099 OK\r\n\r\n", "failed 400 invalid_status"),
        ("HTTP/1.1 600 OK\r\n\r\n", "failed 400 invalid_status"),
        ("HTTP/1.1 200 O\0K\r\n\r\n", "failed 400 invalid_status_line"),
        ("HTTP/1.1 200 OK\n\r\n", "failed 400 bare_lf"),
        ("HTTP/2.0 200 OK\r\n\r\n", "failed 505 unsupported_version"),
        ("HTTP/1.3 200 OK\r\n\r\nok", "body 200 Http11 UntilClose 0 body=ok +0"),
        ("HTTP/1.1\t200 OK\r\n\r\n", "failed 400 invalid_status_line"),
        ("HTTP/1.1 200\tOK\r\n\r\n", "failed 400 invalid_status_line"),
        ("HTTP/1.1 2x0 OK\r\n\r\n", "failed 400 invalid_status_line"),
        ("HTTP/1.1 200 O\rK\r\n\r\n", "failed 400 bare_cr"),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "failed 400 white_space_before_colon"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "failed 400 folded_line"),
        ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "failed 400 bare_lf"),
        ("HTTP/1.1 200 OK\r\n\n", "failed 400 bare_lf"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "failed 400 invalid_content_length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", "failed 400 several_content_lengths"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "failed 400 invalid_transfer_encoding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nt: 1\r\n\r\n", "done 200 Http11 Chunked 0 [transfer-encoding: chunked] body=ok +0 [t: 1]"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok!", "done 200 Http10 Length 2 [content-length: 2] body=ok +1"),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "body 204 Http11 None 0 body= +0"),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", "failed 400 content_length_with_transfer_encoding"),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 3\r\n\r\n", "body 103 Http11 None 0 [link: x] body= +0"),
        ("HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", "body 205 Http11 None 0 [content-length: 0] body= +0"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", "failed 400 content_length_with_transfer_encoding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "failed 501 unknown_transfer_coding"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "failed 400 transfer_encoding_in_http10"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", "failed 400 several_content_lengths"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2,2\r\n\r\n", "failed 400 invalid_content_length"),

        // Limits.
        ("GET /" + new string('a', 20_000) + " HTTP/1.1\r\n" + H + "\r\n", "failed 414 request_line_too_long"),
        ("GET / HTTP/1.1\r\n" + H + "a: " + new string('b', 62_000) + "\r\n\r\n", "failed 431 head_too_large"),
        ("GET / HTTP/1.1\r\n" + H + string.Concat(Enumerable.Range(0, 100).Select(i => $"a{i}: b\r\n")) + "\r\n", "failed 431 too_many_fields"),
    ];

    private static IEnumerable<TestCaseData> Cases =>
        Table.Select((row, i) => new TestCaseData(row.Message, row.Outcome).SetArgDisplayNames($"{i}", row.Outcome.Split('[')[0]));

    [TestCaseSource(nameof(Cases))]
    public void EveryCutGivesTheSame(string message, string outcome)
    {
        var bytes = Encoding.Latin1.GetBytes(message);
        var isRequest = IsRequest(message);
        var whole = ParserFeeds.Whole(bytes, isRequest, Limits);
        Assert.That(outcome.StartsWith("body failed", StringComparison.Ordinal) ? whole.Split(" P http")[0] : whole, Is.EqualTo(outcome));
        Assert.That(ParserFeeds.ByteByByte(bytes, isRequest, Limits), Is.EqualTo(whole));
        Assert.That(ParserFeeds.Segmented(bytes, isRequest, Limits), Is.EqualTo(whole));
        for (var cut = 1; cut < bytes.Length && bytes.Length < 1000; cut++)
        {
            Assert.That(ParserFeeds.Run([bytes[..cut], bytes[cut..]], isRequest, Limits), Is.EqualTo(whole), $"cut at {cut}");
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void ATruncatedMessageNeverEndsCleanly(string message, string outcome)
    {
        if (message.Length > 1000)
        {
            return;
        }

        var bytes = Encoding.Latin1.GetBytes(message);
        var isRequest = IsRequest(message);
        var whole = ParserFeeds.Whole(bytes, isRequest, Limits);
        var end = whole.StartsWith("done", StringComparison.Ordinal)
            ? bytes.Length - int.Parse(whole[(whole.LastIndexOf('+') + 1)..].Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture)
            : whole.StartsWith("body ", StringComparison.Ordinal) && !whole.StartsWith("body failed", StringComparison.Ordinal)
                ? message.IndexOf("\r\n\r\n", 2, StringComparison.Ordinal) + 4
                : bytes.Length;
        for (var length = 0; length < end; length++)
        {
            var part = ParserFeeds.Whole(bytes[..length], isRequest, Limits);
            var isInHead = length < message.IndexOf("\r\n\r\n", 2, StringComparison.Ordinal) + 4;
            Assert.That(part, Does.Not.StartWith("done"), $"after {length} bytes");
            if (isInHead)
            {
                Assert.That(part, Does.StartWith("more").Or.StartWith("failed"), $"after {length} bytes");
            }
        }
    }

    [TestCase("ICY 200 OK\r\n\r\n")]
    [TestCase("HTTP 200 OK\r\n\r\n")]
    [TestCase("http/1.1 200 OK\r\n\r\n")]
    [TestCase("\r\nHTTP/1.1 200 OK\r\n\r\n")]
    [TestCase("0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")]
    public void WhatDoesNotBeginWithAStatusLineIsNoResponse(string message) =>
        Assert.That(ParserFeeds.Whole(Encoding.Latin1.GetBytes(message), false, Limits), Is.EqualTo("failed 400 invalid_status_line"));

    [Test]
    public void CookieCrumbsCountAsOne()
    {
        var message = "GET / HTTP/1.1\r\n" + H + string.Concat(Enumerable.Repeat("Cookie: a=b\r\n", 500)) + "\r\n";
        Assert.That(ParserFeeds.Whole(Encoding.Latin1.GetBytes(message), true, Limits), Does.StartWith("body GET"));
    }

    [Test]
    public void ExactlyTheLimitIsAllowed()
    {
        var start = "GET / HTTP/1.1\r\n" + H + "a: ";
        var message = start + new string('b', Limits.MaxHeadBytes - start.Length - 4) + "\r\n\r\n";
        Assert.That(ParserFeeds.Whole(Encoding.Latin1.GetBytes(message), true, Limits), Does.StartWith("body GET"));
        message = start + new string('b', Limits.MaxHeadBytes - start.Length - 3) + "\r\n\r\n";
        Assert.That(ParserFeeds.Whole(Encoding.Latin1.GetBytes(message), true, Limits), Is.EqualTo("failed 431 head_too_large"));
    }

    [Test]
    public void ExtensionsOfAWholeBodyAreBounded()
    {
        var message = Chunked(string.Concat(Enumerable.Repeat("1;" + new string('x', 200) + "\r\na\r\n", 100)));
        Assert.That(ParserFeeds.Whole(Encoding.Latin1.GetBytes(message), true, Limits), Does.StartWith("body failed 413"));
    }

    [Test]
    public void ABodyOverTheLimitIsTooLarge()
    {
        var limits = new Http1Limits { MaxRequestBodyBytes = 10 };
        var message = "POST / HTTP/1.1\r\n" + H + "Content-Length: 11\r\n\r\n";
        Assert.That(ParserFeeds.Whole(Encoding.Latin1.GetBytes(message), true, limits), Is.EqualTo("failed 413 body_too_large"));
    }

    // Mutations of every message of the table, with small limits so that those are met too. Seeds are fixed: a failure names its own.
    [Test]
    public void MutatedMessagesNeverThrowAndEveryCutGivesTheSame()
    {
        var limits = new Http1Limits { MaxHeadBytes = 90, MaxStartLineBytes = 30, MaxFields = 4, MaxTrailerBytes = 40, MaxChunkExtensionBytes = 8 };
        byte[] favourites = [.. "\r\n\t :;,0123456789abfgxF\0\x7F\xE4/*+-\"HTP1."u8];
        var outcomes = new Dictionary<string, int>();
        foreach (var (message, _) in Table.Where(row => row.Message.Length < 500))
        {
            for (var seed = 0; seed < 60; seed++)
            {
                var random = new Random(seed);
                var bytes = Encoding.Latin1.GetBytes(message).ToList();
                for (var i = random.Next(1, 4); i > 0; i--)
                {
                    var at = random.Next(bytes.Count);
                    var b = random.Next(3) == 0 ? (byte)random.Next(256) : favourites[random.Next(favourites.Length)];
                    switch (random.Next(4))
                    {
                        case 0:
                            bytes[at] = b;
                            break;
                        case 1:
                            bytes.Insert(at, b);
                            break;
                        case 2 when bytes.Count > 2:
                            bytes.RemoveAt(at);
                            break;
                        default:
                            bytes.InsertRange(at, bytes.GetRange(at, Math.Min(random.Next(20), bytes.Count - at)));
                            break;
                    }
                }

                var mutated = bytes.ToArray();
                var isRequest = IsRequest(message);
                var whole = ParserFeeds.Whole(mutated, isRequest, limits);
                var cut = random.Next(mutated.Length + 1);
                if (ParserFeeds.ByteByByte(mutated, isRequest, limits) != whole || ParserFeeds.Segmented(mutated, isRequest, limits) != whole
                    || ParserFeeds.Run([mutated[..cut], mutated[cut..]], isRequest, limits) != whole)
                {
                    Assert.Fail($"seed {seed}: {Convert.ToHexString(mutated)}: {whole} / {ParserFeeds.ByteByByte(mutated, isRequest, limits)}");
                }

                var kind = string.Join(' ', whole.Split(' ').Take(2));
                outcomes[kind] = outcomes.GetValueOrDefault(kind) + 1;
            }
        }

        Assert.That(outcomes.Keys.Count(key => key.StartsWith("failed 4", StringComparison.Ordinal)), Is.GreaterThan(2), "the mutations reach the limits");
    }

    private static string Chunked(string body) => "P / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n" + body;

    private static bool IsRequest(string message) => !message.StartsWith("HTTP/", StringComparison.Ordinal);
}
