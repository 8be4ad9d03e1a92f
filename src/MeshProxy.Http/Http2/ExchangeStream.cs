using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http.Http2;

/// <summary>The writing half that the exchanges of both sides share. Its methods take the lock themselves.</summary>
internal static class ExchangeStream
{
    public static ValueTask<bool> WriteBody(Http2Stream stream, ReadOnlySequence<byte> data, bool endStream)
    {
        var connection = stream.Connection;
        ValueTask<bool> written;
        Deferred deferred;
        lock (connection.Gate)
        {
            if (!stream.State.CanSend || connection.IsWriteEnded)
            {
                return new ValueTask<bool>(false);
            }

            written = connection.Writer.WriteData(stream, data, endStream);
            deferred = connection.Writer.TakeDeferred();
        }

        connection.Run(deferred);
        if (!written.IsCompleted)
        {
            // What is framed already must go out, or the peer never gives window.
            FlushBatch.Request(connection.Writer);
        }

        return written;
    }

    public static bool WriteTrailers(Http2Stream stream, FieldMap trailers)
    {
        var connection = stream.Connection;
        Deferred deferred;
        lock (connection.Gate)
        {
            if (!stream.State.CanSend || connection.IsWriteEnded)
            {
                return false;
            }

            if (stream.IsTunnel)
            {
                // The end of one direction is END_STREAM alone: a connected stream carries no HEADERS (RFC 9113 section 8.5).
                connection.Writer.WriteEnd(stream);
            }
            else
            {
                connection.Writer.WriteTrailers(stream, trailers);
                connection.OnEndSent(stream);
            }

            deferred = connection.Writer.TakeDeferred();
        }

        connection.Run(deferred);
        return true;
    }

    public static ValueTask<bool> Flush(Http2Stream stream)
    {
        var connection = stream.Connection;
        FlushBatch.Request(connection.Writer);
        lock (connection.Gate)
        {
            return stream.HasEnded ? new ValueTask<bool>(false) : connection.Writer.WaitForRoom(stream);
        }
    }

    /// <summary>Ends a stream. A server that has sent all of its response asks with NO_ERROR for no more of the request (RFC 9113 section 8.1): any
    /// other code would take the response back, also when it is a stop that comes late. A tunnel is never whole: there a stop is told.</summary>
    public static void Reset(Http2Stream stream, StreamEnd end, bool isServer = false)
    {
        var connection = stream.Connection;
        Deferred deferred;
        lock (connection.Gate)
        {
            if (connection.IsClosed || stream.HasEnded)
            {
                return;
            }

            var isWhole = isServer && !stream.State.CanSend && end.Reason == StreamResetReason.Cancelled
                && (end.WireCode == 0 || (end.WireCode == (uint)Http2ErrorCode.Cancel && !stream.IsTunnel));
            connection.ResetStream(stream, isWhole ? Http2ErrorCode.NoError : CodeOf(end, stream.IsTunnel), end);
            deferred = connection.Writer.TakeDeferred();
        }

        connection.Run(deferred);
        FlushBatch.Request(connection.Writer);
    }

    private static Http2ErrorCode CodeOf(StreamEnd end, bool isTunnel) => end.WireCode != 0 ? (Http2ErrorCode)end.WireCode : end.Reason switch
    {
        // The other side of the tunnel broke off (RFC 9113 section 8.5).
        StreamResetReason.ConnectionReset or StreamResetReason.PeerClosed or StreamResetReason.PeerReset when isTunnel => Http2ErrorCode.ConnectError,
        StreamResetReason.Cancelled or StreamResetReason.TimedOut => Http2ErrorCode.Cancel,
        StreamResetReason.PeerRefused or StreamResetReason.PeerGoAway => Http2ErrorCode.RefusedStream,
        StreamResetReason.LimitExceeded or StreamResetReason.BodyTooLarge or StreamResetReason.TrailersTooLarge => Http2ErrorCode.EnhanceYourCalm,
        _ => Http2ErrorCode.InternalError,
    };
}
