using System.IO.Pipelines;

namespace MeshProxy.Http;

/// <summary>The reading end of a transport that may be able to hand bytes to a writing end without taking them into the process (Linux: splice).</summary>
public interface ISplicingReader
{
    /// <summary>Whether bytes can go from here to <paramref name="output"/> so.</summary>
    bool CanSpliceTo(PipeWriter output);

    /// <summary>Waits until there are bytes to take, the input has ended, or <see cref="PipeReader.CancelPendingRead"/> is called. Takes nothing. When the input fails it may
    /// throw as a read does.</summary>
    ValueTask<int> WaitAsync();

    /// <summary>A way to <paramref name="output"/>; null when none is left. Only after <see cref="CanSpliceTo"/>.</summary>
    ISplice? TryBeginSplice(PipeWriter output);
}

/// <summary>
/// A way for bytes from one connection to another, past the process: one fill, then one drain, and so on. Disposed while it holds bytes, it sends them all the
/// same, or they are lost with the output.
/// </summary>
public interface ISplice : IDisposable
{
    /// <summary>Bytes that were taken and not yet sent. Any thread.</summary>
    int Held { get; }

    /// <summary>Takes what is at hand, at most <paramref name="most"/> bytes. The input must hold nothing that is unread.</summary>
    /// <returns>The count. 0: nothing is at hand. Negative: it never will be, because the input has ended, failed, was cancelled, or has something else than plain bytes: a read tells which.</returns>
    int Fill(long most);

    /// <summary>Sends what was taken. The output must hold nothing that is unsent, and is flushed by nobody else meanwhile. Answers as
    /// <see cref="PipeWriter.FlushAsync"/> does.</summary>
    ValueTask<FlushResult> DrainAsync();
}
