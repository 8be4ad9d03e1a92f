using System.Text;
using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2.Hpack;
using static MeshProxy.Http.Tests.Http2.RawPeer;

namespace MeshProxy.Http.Tests.Http2;

/// <summary>RFC 7541: the examples of appendix C, the rules of sections 4 to 6, round trips and noise.</summary>
public sealed class HpackTests
{
    private static readonly string[] s_requests1 = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
    private static readonly string[] s_requests2 = [.. s_requests1, "cache-control: no-cache"];
    private static readonly string[] s_requests3 =
        [":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"];

    private static readonly string[] s_responses1 =
        [":status: 302", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"];

    private static readonly string[] s_responses2 =
        [":status: 307", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"];

    private static readonly string[] s_responses3 =
    [
        ":status: 200", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:22 GMT", "location: https://www.example.com",
        "content-encoding: gzip", "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ];

    [TestCase("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header", TestName = "C.2.1")]
    [TestCase("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path", TestName = "C.2.2")]
    [TestCase("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret (never)", TestName = "C.2.3")]
    [TestCase("82", ":method: GET", TestName = "C.2.4")]
    public void Single_lines(string hex, string expected) =>
        Assert.That(DecodeAll(new HpackDecoder(4096), Hex(hex)), Is.EqualTo(new[] { expected }));

    [Test]
    public void C3_requests_without_huffman()
    {
        var decoder = new HpackDecoder(4096);
        Assert.That(DecodeAll(decoder, Hex("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d")), Is.EqualTo(s_requests1));
        Assert.That(DecodeAll(decoder, Hex("8286 84be 5808 6e6f 2d63 6163 6865")), Is.EqualTo(s_requests2));
        Assert.That(DecodeAll(decoder, Hex("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65")), Is.EqualTo(s_requests3));
    }

    [Test]
    public void C4_requests_with_huffman()
    {
        var decoder = new HpackDecoder(4096);
        Assert.That(DecodeAll(decoder, Hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")), Is.EqualTo(s_requests1));
        Assert.That(DecodeAll(decoder, Hex("8286 84be 5886 a8eb 1064 9cbf")), Is.EqualTo(s_requests2));
        Assert.That(DecodeAll(decoder, Hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")), Is.EqualTo(s_requests3));
    }

    [Test]
    public void C5_responses_with_eviction()
    {
        var decoder = new HpackDecoder(256);
        Assert.That(
            DecodeAll(decoder, Hex("4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d")),
            Is.EqualTo(s_responses1));
        Assert.That(DecodeAll(decoder, Hex("4803 3330 37c1 c0bf")), Is.EqualTo(s_responses2));
        Assert.That(
            DecodeAll(decoder, Hex("88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31")),
            Is.EqualTo(s_responses3));
    }

    [Test]
    public void C6_responses_with_huffman_and_eviction()
    {
        var decoder = new HpackDecoder(256);
        Assert.That(
            DecodeAll(decoder, Hex("4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3")),
            Is.EqualTo(s_responses1));
        Assert.That(DecodeAll(decoder, Hex("4883 640e ffc1 c0bf")), Is.EqualTo(s_responses2));
        Assert.That(
            DecodeAll(decoder, Hex("88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07")),
            Is.EqualTo(s_responses3));
    }

    [TestCase("80", TestName = "index 0")]
    [TestCase("be", TestName = "index beyond the table")]
    [TestCase("ff ff ff ff ff ff 0f", TestName = "integer too long")]
    [TestCase("3f e2 1f", TestName = "table size above the limit")]
    [TestCase("82 20", TestName = "size update after a line")]
    [TestCase("40", TestName = "name missing")]
    [TestCase("04 0c 2f", TestName = "value truncated")]
    [TestCase("04 82 63 00", TestName = "padding of zeros")]
    [TestCase("04 82 1f ff", TestName = "padding of a whole byte")]
    [TestCase("04 84 ff ff ff ff", TestName = "EOS")]
    public void Malformed_blocks(string hex) =>
        Assert.That(new HpackDecoder(4096).Decode(Hex(hex), new Lines()), Is.EqualTo(HpackVerdict.Malformed));

    [Test]
    public void Size_update_empties_the_table_and_a_larger_entry_does_too()
    {
        var decoder = new HpackDecoder(4096);
        DecodeAll(decoder, Hex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"));
        Assert.That(DecodeAll(decoder, Hex("be")), Has.Length.EqualTo(1));
        Assert.That(decoder.Decode(Hex("20 3f e1 1f be"), new Lines()), Is.EqualTo(HpackVerdict.Malformed));
    }

    [TestCase("20 82", true, TestName = "a smaller size in time")]
    [TestCase("3f e1 01 82", true, TestName = "the size in time")]
    [TestCase("82", false, TestName = "size update missing")]
    [TestCase("82 3f e1 01", false, TestName = "size update late")]
    [TestCase("3f e1 1f 82", false, TestName = "size update too large")]
    public void A_smaller_table_than_the_protocols_must_be_answered(string hex, bool isLegal)
    {
        var decoder = HpackDecoder.ForConnection(256);
        Assert.That(DecodeAll(decoder, Hex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")), Has.Length.EqualTo(1), "before it has seen our SETTINGS the peer has 4096 bytes");
        Assert.That(DecodeAll(decoder, Hex("be")), Has.Length.EqualTo(1));
        decoder.OnSettingsAcknowledged();
        Assert.That(decoder.Decode(Hex(hex), new Lines()), Is.EqualTo(isLegal ? HpackVerdict.Ok : HpackVerdict.Malformed));
        if (isLegal)
        {
            Assert.That(decoder.Decode(Hex("82"), new Lines()), Is.EqualTo(HpackVerdict.Ok), "once is enough");
        }
    }

    [Test]
    public void A_larger_table_than_the_protocols_begins_with_its_size()
    {
        var decoder = HpackDecoder.ForConnection(8192);
        var encoder = new HpackEncoder(8192);
        var block = new byte[8192];
        for (var i = 0; i < 400; i++)
        {
            if (i == 200)
            {
                decoder.OnSettingsAcknowledged();
                encoder.OnPeerTableSize(8192);
            }

            var fields = new FieldMap();
            fields.Add("name"u8, Encoding.ASCII.GetBytes($"{i % 71:d60}"));
            var length = encoder.EncodeTrailers(fields, block);
            Assert.That(DecodeAll(decoder, block[..length]), Is.EqualTo(new[] { $"name: {i % 71:d60}" }));
        }
    }

    [Test]
    public void Huffman_decodes_every_byte()
    {
        var random = new Random(1);
        for (var i = 0; i < 500; i++)
        {
            var source = new byte[random.Next(300)];
            random.NextBytes(source);
            Assert.That(Unhuffman(HuffmanCode.Encode(source)), Is.EqualTo(source));
        }
    }

    [Test]
    public void Encoder_and_decoder_stay_in_step()
    {
        var random = new Random(7);
        var encoder = new HpackEncoder(4096);
        var decoder = new HpackDecoder(4096);
        var names = new[] { "x-a", "x-b", "accept", "cookie", "authorization", "x-much-longer-name-than-the-others", "date" };
        for (var i = 0; i < 5000; i++)
        {
            if (random.Next(50) == 0)
            {
                encoder.OnPeerTableSize((uint)random.Next(5000));
                encoder.OnPeerTableSize((uint)random.Next(5000));
            }

            var fields = new FieldMap();
            var expected = new List<string> { $":status: {200 + (i % 7)}" };
            for (var n = random.Next(8); n > 0; n--)
            {
                var name = names[random.Next(names.Length)];
                var value = new string((char)('a' + random.Next(3)), random.Next(4) == 0 ? random.Next(1500) : random.Next(20));
                fields.Add(Encoding.ASCII.GetBytes(name), Encoding.ASCII.GetBytes(value));
                expected.Add($"{name}: {value}" + (name is "cookie" or "authorization" ? " (never)" : ""));
            }

            var block = new byte[HpackEncoder.Bound(fields, 3)];
            var length = encoder.EncodeResponse(200 + (i % 7), fields, block);
            Assert.That(DecodeAll(decoder, block[..length]), Is.EqualTo(expected));
        }
    }

    [TestCase("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff", TestName = "C.4.1 string")]
    [TestCase("no-cache", "a8eb10649cbf", TestName = "C.4.2 string")]
    [TestCase("custom-value", "25a849e95bb8e8b4bf", TestName = "C.4.3 string")]
    [TestCase("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff", TestName = "C.6.1 string")]
    [TestCase("foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1", "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007", TestName = "C.6.3 string")]
    public void Huffman_decodes_as_the_RFC_does(string text, string hex)
    {
        Assert.That(HuffmanCode.Encode(Encoding.ASCII.GetBytes(text)), Is.EqualTo(Hex(hex)), "so does the code that other tests encode with");
        Assert.That(Encoding.ASCII.GetString(Unhuffman(Hex(hex))), Is.EqualTo(text));
    }

    [TestCase("authorization")]
    [TestCase("proxy-authorization")]
    [TestCase("cookie")]
    [TestCase("set-cookie")]
    [TestCase("idempotency-key")]
    [TestCase("X-Idempotency-Key")]
    [TestCase("x-api-key")]
    [TestCase("api-key")]
    [TestCase("x-auth-token")]
    [TestCase("x-csrf-token")]
    [TestCase("x-access-token")]
    [TestCase("x-amz-security-token")]
    [TestCase("authentication-info")]
    public void Secrets_are_never_indexed(string name)
    {
        var encoder = new HpackEncoder(4096);
        var decoder = new HpackDecoder(4096);
        var block = new byte[512];
        foreach (var isUnknown in new[] { false, true })
        {
            var fields = new FieldMap();
            if (!isUnknown)
            {
                fields.Add(Encoding.ASCII.GetBytes(name), "secret"u8);
            }
            else if (KnownFields.Parse(Encoding.ASCII.GetBytes(name)) == KnownField.Other)
            {
                fields.AddUnknown(Encoding.ASCII.GetBytes(name), "secret"u8);
            }

            for (var i = 0; i < 3; i++)
            {
                var written = encoder.EncodeTrailers(fields, block);
                Assert.That(DecodeAll(decoder, block[..written]), Has.All.EqualTo($"{name.ToLowerInvariant()}: secret (never)"));
            }
        }
    }

    [Test]
    public void What_came_never_indexed_goes_on_never_indexed()
    {
        // RFC 7541 section 6.2.3 demands it of whoever passes a message on, pseudo-fields included.
        byte[] Never(int nameIndex, string name, string value) => nameIndex > 0
            ? [(byte)(0x10 | nameIndex), (byte)value.Length, .. Encoding.ASCII.GetBytes(value)]
            : [0x10, (byte)name.Length, .. Encoding.ASCII.GetBytes(name), (byte)value.Length, .. Encoding.ASCII.GetBytes(value)];

        byte[] block = [.. Never(2, "", "GET"), .. Never(6, "", "http"), .. Never(4, "", "/token/4711"), .. Never(1, "", "a"), .. Never(0, "x-card", "1"), .. Line("x-plain", "2")];
        var message = new MeshProxy.Http.Http2.MessageFields(new MeshProxy.Http.Http2.Http2Limits(), allowExtendedConnect: false);
        var head = new RequestHead();
        message.BeginRequest(head);
        Assert.That(new HpackDecoder(4096).Decode(block, message), Is.EqualTo(HpackVerdict.Ok));
        Assert.That(message.End(), Is.EqualTo(MeshProxy.Http.Http2.FieldBlockVerdict.Ok));
        var copy = new RequestHead();
        copy.CopyFrom(head);
        var encoder = new HpackEncoder(4096);
        var decoder = new HpackDecoder(4096);
        var target = new byte[512];
        for (var i = 0; i < 3; i++)
        {
            var written = encoder.EncodeRequest(copy, target);
            Assert.That(DecodeAll(decoder, target[..written]), Is.EqualTo(new[]
            {
                ":method: GET (never)", ":scheme: http (never)", ":path: /token/4711 (never)", ":authority: a (never)", "x-card: 1 (never)", "x-plain: 2",
            }));
        }
    }

    [Test]
    public void Repeated_lines_become_one_byte_each()
    {
        var encoder = new HpackEncoder(4096);
        var fields = new FieldMap();
        fields.Add(KnownField.Server, "meshproxy"u8);
        fields.Add("x-own"u8, "value"u8);
        var block = new byte[512];
        encoder.EncodeResponse(200, fields, block);
        encoder.EncodeResponse(200, fields, block);
        Assert.That(encoder.EncodeResponse(200, fields, block), Is.EqualTo(3));
    }

    [Test]
    public void Noise_never_throws()
    {
        var random = new Random(42);
        var decoder = new HpackDecoder(4096);
        for (var i = 0; i < 50_000; i++)
        {
            var block = new byte[random.Next(64)];
            random.NextBytes(block);
            decoder.Decode(block, new Lines());
        }
    }

    private static byte[] Unhuffman(byte[] source)
    {
        var decoded = new byte[Huffman.MaxDecodedLength(source.Length)];
        return decoded[..Huffman.Decode(source, decoded)];
    }

    private static string[] DecodeAll(HpackDecoder decoder, byte[] block)
    {
        var lines = new Lines();
        Assert.That(decoder.Decode(block, lines), Is.EqualTo(HpackVerdict.Ok));
        return [.. lines.All];
    }

    private sealed class Lines : IFieldLineSink
    {
        public List<string> All { get; } = [];

        public bool OnFieldLine(HpackName name, ReadOnlySpan<byte> nameBytes, ReadOnlySpan<byte> value, bool neverIndexed)
        {
            Assert.That(name, Is.EqualTo(HpackName.Classify(nameBytes)));
            All.Add($"{Encoding.ASCII.GetString(nameBytes)}: {Encoding.ASCII.GetString(value)}" + (neverIndexed ? " (never)" : ""));
            return true;
        }
    }
}
