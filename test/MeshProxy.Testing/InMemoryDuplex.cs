using System.IO.Pipelines;

namespace MeshProxy.Testing;

/// <summary>
/// Two connected transports in memory: what one side writes the other reads. Everything runs inline on the thread that writes or flushes, so a test
/// is one thread of control and needs no waiting. Completing an output is a FIN; completing it with an exception is a connection error.
/// </summary>
public sealed class InMemoryDuplex
{
    private readonly Pipe _toServer;
    private readonly Pipe _toClient;

    /// <summary>Makes the pair.</summary>
    /// <param name="pauseWriterBytes">A flush stays incomplete while the other side has not read this many bytes.</param>
    public InMemoryDuplex(int pauseWriterBytes = 64 * 1024)
    {
        var options = new PipeOptions(
            readerScheduler: PipeScheduler.Inline,
            writerScheduler: PipeScheduler.Inline,
            pauseWriterThreshold: pauseWriterBytes,
            resumeWriterThreshold: Math.Max(1, pauseWriterBytes / 2),
            useSynchronizationContext: false);
        _toServer = new Pipe(options);
        _toClient = new Pipe(options);
        Client = new Side(_toClient.Reader, _toServer.Writer);
        Server = new Side(_toServer.Reader, _toClient.Writer);
    }

    /// <summary>The dialing side.</summary>
    public IDuplexPipe Client { get; }

    /// <summary>The accepting side.</summary>
    public IDuplexPipe Server { get; }

    private sealed record Side(PipeReader Input, PipeWriter Output) : IDuplexPipe;
}
