using System.IO.Pipelines;
using MeshProxy.Http;

namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// Moves bytes from one socket to another through a pipe of the kernel (splice(2)): they are neither copied into the process nor out of it. The pipe is empty
/// between a drain and the next fill. Each event loop keeps a few pipes; they cost two descriptors each, and memory only while they hold something.
/// </summary>
/// <remarks>It has two users: who began it, until <see cref="Dispose"/>, and the output's sends from <see cref="DrainAsync"/> until all was sent or the output broke.
/// The last one to leave gives the pipe back, or closes it when bytes are left in it, so that they can not end up in another connection.</remarks>
internal sealed class SocketSplice : ISplice
{
    /// <summary>Pipes of the whole process. Without one bytes are copied.</summary>
    public const int MaxPipes = 256;

    /// <summary>What a pipe shall hold; the kernel gives less to users that have many (pipe(7): pipe-user-pages-soft).</summary>
    public const int PipeBytes = 256 * 1024;

    // With less than this, copying is cheaper: a user beyond his limit gets two pages.
    private const int LeastPipeBytes = 64 * 1024;

    private const int KeptPerLoop = 16;

    // Each belongs to one event loop, and is touched on its thread alone.
    private static readonly Stack<SocketSplice>[] s_kept = [.. EventLoop.All.Select(_ => new Stack<SocketSplice>(KeptPerLoop))];

    private static int s_pipes;
    private static long s_moved;

    private readonly int _readEnd;
    private readonly int _writeEnd;
    private readonly int _capacity;
    private ChannelReader? _input;
    private ChannelWriter? _output;
    private int _users;
    private int _held;

    private SocketSplice(int readEnd, int writeEnd, int capacity)
    {
        _readEnd = readEnd;
        _writeEnd = writeEnd;
        _capacity = capacity;
    }

    /// <summary>Pipes that are open now, the kept ones too.</summary>
    public static int OpenPipes => Volatile.Read(ref s_pipes);

    /// <summary>Bytes that went this way since the start.</summary>
    public static long MovedBytes => Volatile.Read(ref s_moved);

    /// <summary>Begins; null when no pipe is left.</summary>
    public static SocketSplice? TryBegin(ChannelReader input, ChannelWriter output)
    {
        var splice = Kept is { Count: > 0 } kept ? kept.Pop() : TryOpen();
        if (splice is not null)
        {
            splice._input = input;
            splice._output = output;
            splice._users = 1;
        }

        return splice;
    }

    /// <inheritdoc/>
    public int Held => Volatile.Read(ref _held);

    /// <inheritdoc/>
    public int Fill(long most) => _input!.Splice(this, (int)Math.Min(most, _capacity));

    /// <inheritdoc/>
    public ValueTask<FlushResult> DrainAsync()
    {
        Interlocked.Increment(ref _users);
        return _output!.DrainAsync(this);
    }

    /// <inheritdoc/>
    public void Dispose() => Leave();

    /// <summary>For the input's channel: takes what is at hand. As recv(2), with the error in <see cref="LinuxSocket.LastError"/>.</summary>
    internal nint Fill(int descriptor, int most)
    {
        var count = LinuxSocket.Splice(descriptor, _writeEnd, most);
        if (count > 0)
        {
            Volatile.Write(ref _held, _held + (int)count);
        }

        return count;
    }

    /// <summary>For the output's channel: sends all that is left.</summary>
    /// <param name="descriptor">Where to.</param>
    /// <param name="wasCut">Whether the call before the one that failed had sent a part: the kernel sends in several steps, and tells of an error that ends a later one
    /// neither then nor in the next call.</param>
    /// <returns>True when nothing is left. False: the error is in <see cref="LinuxSocket.LastError"/>.</returns>
    internal bool Drain(int descriptor, out bool wasCut)
    {
        wasCut = false;
        while (_held > 0)
        {
            var count = LinuxSocket.Splice(_readEnd, descriptor, _held);
            if (count <= 0)
            {
                return false;
            }

            Volatile.Write(ref _held, _held - (int)count);
            Interlocked.Add(ref s_moved, count);
            wasCut = true;
        }

        return true;
    }

    /// <summary>One of the two users is done with it.</summary>
    internal void Leave()
    {
        if (Interlocked.Decrement(ref _users) > 0)
        {
            return;
        }

        _input = null;
        _output = null;
        if (_held == 0 && Kept is { Count: < KeptPerLoop } kept)
        {
            kept.Push(this);
            return;
        }

        _ = LinuxSocket.Close(_readEnd);
        _ = LinuxSocket.Close(_writeEnd);
        Interlocked.Decrement(ref s_pipes);
    }

    // Other threads come and go, and would take theirs with them.
    private static Stack<SocketSplice>? Kept => EventLoop.CurrentNumber is var number && number < s_kept.Length ? s_kept[number] : null;

    private static SocketSplice? TryOpen()
    {
        if (Interlocked.Increment(ref s_pipes) <= MaxPipes && LinuxSocket.TryOpenPipe(PipeBytes, out var readEnd, out var writeEnd, out var capacity))
        {
            if (capacity >= LeastPipeBytes)
            {
                return new SocketSplice(readEnd, writeEnd, capacity);
            }

            _ = LinuxSocket.Close(readEnd);
            _ = LinuxSocket.Close(writeEnd);
        }

        Interlocked.Decrement(ref s_pipes);
        return null;
    }
}
