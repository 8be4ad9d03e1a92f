using System.Buffers;
using MeshProxy.Http.Fields;

namespace MeshProxy.Http;

/// <summary>The outgoing half of a message after its head, the same for requests and responses: what a body pump writes to.</summary>
public interface IHttpBodyWriter
{
    /// <summary>Copies body bytes out, waiting for window and buffer space.</summary>
    /// <returns>False when nobody will read it: the exchange has ended.</returns>
    ValueTask<bool> WriteBodyAsync(ReadOnlySequence<byte> data, bool endStream);

    /// <summary>Ends the message with trailer fields.</summary>
    bool WriteTrailers(FieldMap trailers);

    /// <summary>Sends what was written; inside a <see cref="FlushBatch"/> at its end.</summary>
    ValueTask<bool> FlushAsync();
}
