using System.Buffers;
using System.Buffers.Binary;

namespace MeshProxy.Http.Http2.Frames;

/// <summary>Takes frame payloads apart. No I/O, no state. Too short for what the flags announce is FRAME_SIZE_ERROR (RFC 9113 section 4.2), padding longer
/// than what it pads PROTOCOL_ERROR (sections 6.1, 6.2).</summary>
internal static class FramePayload
{
    /// <summary>Strips the padding of DATA (RFC 9113 section 6.1): the pad length octet and that many octets at the end.</summary>
    public static Http2ErrorCode StripPadding(FrameHeader header, ref ReadOnlySequence<byte> payload)
    {
        if (!header.Has(FrameFlags.Padded))
        {
            return Http2ErrorCode.NoError;
        }

        if (payload.IsEmpty)
        {
            return Http2ErrorCode.FrameSizeError;
        }

        var padding = payload.FirstSpan.IsEmpty ? payload.Slice(0, 1).ToArray()[0] : payload.FirstSpan[0];
        if (padding >= payload.Length)
        {
            return Http2ErrorCode.ProtocolError;
        }

        payload = payload.Slice(1, payload.Length - 1 - padding);
        return Http2ErrorCode.NoError;
    }

    /// <summary>Strips padding and priority of HEADERS (RFC 9113 section 6.2), leaving the field block fragment.</summary>
    /// <param name="header">The frame's header.</param>
    /// <param name="payload">The payload; the fragment afterwards.</param>
    /// <param name="dependency">The stream it depends on, or -1 without the priority flag.</param>
    public static Http2ErrorCode ReadHeaders(FrameHeader header, ref ReadOnlySpan<byte> payload, out int dependency)
    {
        dependency = -1;
        var padding = 0;
        if (header.Has(FrameFlags.Padded))
        {
            if (payload.IsEmpty)
            {
                return Http2ErrorCode.FrameSizeError;
            }

            padding = payload[0];
            payload = payload[1..];
        }

        if (header.Has(FrameFlags.Priority))
        {
            if (payload.Length < 5)
            {
                return Http2ErrorCode.FrameSizeError;
            }

            dependency = (int)(BinaryPrimitives.ReadUInt32BigEndian(payload) & 0x7fffffff);
            payload = payload[5..];
        }

        if (padding > payload.Length)
        {
            return Http2ErrorCode.ProtocolError;
        }

        payload = payload[..^padding];
        return Http2ErrorCode.NoError;
    }

    /// <summary>The 31 bits of a WINDOW_UPDATE increment, a GOAWAY's last stream or a PRIORITY's dependency.</summary>
    public static int ReadUInt31(ReadOnlySpan<byte> payload) => (int)(BinaryPrimitives.ReadUInt32BigEndian(payload) & 0x7fffffff);

    public static uint ReadUInt32(ReadOnlySpan<byte> payload) => BinaryPrimitives.ReadUInt32BigEndian(payload);

    /// <summary>One setting of a SETTINGS payload.</summary>
    public static (SettingId Id, uint Value) ReadSetting(ReadOnlySpan<byte> payload) =>
        ((SettingId)BinaryPrimitives.ReadUInt16BigEndian(payload), BinaryPrimitives.ReadUInt32BigEndian(payload[2..]));
}
