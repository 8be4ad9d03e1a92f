using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace MeshProxy.DataPlane.Transport;

/// <summary>The few system calls of the hot path, without what the class library adds around them: a try before each wait, handle counting, events.</summary>
internal static unsafe partial class LinuxSocket
{
    public const int Again = 11;
    public const int BrokenPipe = 32;
    public const int Interrupted = 4;
    public const int InProgress = 115;
    public const int AddressInUse = 98;
    public const int ConnectionAborted = 103;
    public const int TooManyFilesInProcess = 24;
    public const int TooManyFilesInSystem = 23;
    public const int NoBuffers = 105;
    public const int NoMemory = 12;

    public const uint EventIn = 0x001;
    public const uint EventUrgent = 0x002;
    public const uint EventOut = 0x004;
    public const uint EventError = 0x008;
    public const uint EventHangUp = 0x010;
    public const uint EventReadHangUp = 0x2000;
    public const uint EventEdge = 1u << 31;

    public const int MessageDontWait = 0x40;
    public const int MessageNoSignal = 0x4000;
    public const int MessageTruncate = 0x20;

    private const int FamilyUnix = 1;
    private const int FamilyIPv4 = 2;
    private const int FamilyIPv6 = 10;
    private const int NonBlockCloseOnExec = 0x800 | 0x80000;
    private const int StreamNonBlockCloseOnExec = 1 | NonBlockCloseOnExec;
    private const int LevelSocket = 1;
    private const int LevelTcp = 6;
    private const int LevelIPv6 = 41;
    private const int ReuseAddress = 2;
    private const int SocketError = 4;
    private const int KeepAlive = 9;
    private const int NoDelay = 1;
    private const int KeepIdle = 4;
    private const int KeepInterval = 5;
    private const int IPv6Only = 26;
    private const int AddressCapacity = 128;
    private const uint SpliceMove = 1;
    private const uint SpliceNonBlock = 2;
    private const int SetPipeSize = 1031;
    private const int GetPipeSize = 1032;

    /// <summary>One event of epoll; packed on x64 as the kernel defines it.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 12)]
    public struct PackedEvent
    {
        [FieldOffset(0)]
        public uint Events;

        [FieldOffset(4)]
        public ulong Data;
    }

    /// <summary>One event of epoll, elsewhere than on x64.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 16)]
    public struct AlignedEvent
    {
        [FieldOffset(0)]
        public uint Events;

        [FieldOffset(8)]
        public ulong Data;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct MessageHeader
    {
        public void* Name;
        public int NameLength;
        public IoVector* Vectors;
        public nint VectorCount;
        public void* Control;
        public nint ControlLength;
        public int Flags;
    }

    public static int LastError => Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "recv", SetLastError = true)]
    public static partial nint Receive(int descriptor, byte* buffer, nint length, int flags);

    [LibraryImport("libc", EntryPoint = "send", SetLastError = true)]
    public static partial nint Send(int descriptor, byte* buffer, nint length, int flags);

    public static nint Send(int descriptor, IoVector* vectors, int count)
    {
        if (count == 1)
        {
            return Send(descriptor, vectors->Base, vectors->Length, MessageDontWait | MessageNoSignal);
        }

        var message = new MessageHeader { Vectors = vectors, VectorCount = count };
        return SendMessage(descriptor, &message, MessageDontWait | MessageNoSignal);
    }

    [LibraryImport("libc", EntryPoint = "shutdown", SetLastError = true)]
    public static partial int Shutdown(int descriptor, int how);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    public static partial int Close(int descriptor);

    [LibraryImport("libc", EntryPoint = "epoll_create1", SetLastError = true)]
    public static partial int EpollCreate(int flags);

    [LibraryImport("libc", EntryPoint = "epoll_wait", SetLastError = true)]
    public static partial int EpollWait(int epoll, void* events, int count, int timeoutMilliseconds);

    public static void EpollAdd(int epoll, int descriptor, uint events, ulong data)
    {
        int result;
        if (RuntimeInformation.ProcessArchitecture is Architecture.X64)
        {
            var packed = new PackedEvent { Events = events, Data = data };
            result = EpollControl(epoll, 1, descriptor, &packed);
        }
        else
        {
            var aligned = new AlignedEvent { Events = events, Data = data };
            result = EpollControl(epoll, 1, descriptor, &aligned);
        }

        if (result != 0)
        {
            throw new SocketException(ToSocketError(LastError));
        }
    }

    public static void EpollRemove(int epoll, int descriptor)
    {
        AlignedEvent ignored;
        _ = EpollControl(epoll, 2, descriptor, &ignored);
    }

    /// <summary>Opens a stream socket for the family of an address.</summary>
    public static int Open(EndPoint endPoint)
    {
        var descriptor = NewSocket(FamilyOf(endPoint), StreamNonBlockCloseOnExec, 0);
        return descriptor >= 0 ? descriptor : throw new SocketException(ToSocketError(LastError));
    }

    public static int Connect(int descriptor, EndPoint endPoint)
    {
        var address = endPoint.Serialize();
        fixed (byte* bytes = address.Buffer.Span)
        {
            return Connect(descriptor, bytes, address.Size) == 0 ? 0 : LastError;
        }
    }

    public static int Bind(int descriptor, EndPoint endPoint)
    {
        var address = endPoint.Serialize();
        fixed (byte* bytes = address.Buffer.Span)
        {
            return Bind(descriptor, bytes, address.Size) == 0 ? 0 : LastError;
        }
    }

    [LibraryImport("libc", EntryPoint = "listen", SetLastError = true)]
    public static partial int Listen(int descriptor, int backlog);

    /// <summary>Takes a waiting connection; negative when there is none or the call failed.</summary>
    public static int Accept(int descriptor, out EndPoint? remote)
    {
        var bytes = stackalloc byte[AddressCapacity];
        var length = AddressCapacity;
        var accepted = Accept4(descriptor, bytes, &length, NonBlockCloseOnExec);
        remote = accepted >= 0 ? ToEndPoint(new ReadOnlySpan<byte>(bytes, length)) : null;
        return accepted;
    }

    public static EndPoint? LocalAddress(int descriptor)
    {
        var bytes = stackalloc byte[AddressCapacity];
        var length = AddressCapacity;
        return GetSocketName(descriptor, bytes, &length) == 0 ? ToEndPoint(new ReadOnlySpan<byte>(bytes, length)) : null;
    }

    /// <summary>Reads an option; the count of bytes read, or negative.</summary>
    public static int GetOption(int descriptor, int level, int name, Span<byte> value)
    {
        var length = value.Length;
        fixed (byte* bytes = value)
        {
            return GetSocketOption(descriptor, level, name, bytes, &length) == 0 ? length : -1;
        }
    }

    /// <summary>The error that a connect ended with; 0 when it succeeded.</summary>
    public static int TakeError(int descriptor)
    {
        Span<byte> value = stackalloc byte[4];
        return GetOption(descriptor, LevelSocket, SocketError, value) == 4 ? MemoryMarshal.Read<int>(value) : LastError;
    }

    public static void SetNoDelay(int descriptor) => SetFlag(descriptor, LevelTcp, NoDelay, 1);

    public static void SetReuseAddress(int descriptor) => SetFlag(descriptor, LevelSocket, ReuseAddress, 1);

    public static void SetDualMode(int descriptor) => SetFlag(descriptor, LevelIPv6, IPv6Only, 0);

    public static void SetKeepAlive(int descriptor, int seconds)
    {
        SetFlag(descriptor, LevelSocket, KeepAlive, 1);
        SetFlag(descriptor, LevelTcp, KeepIdle, seconds);
        SetFlag(descriptor, LevelTcp, KeepInterval, Math.Max(1, seconds / 4));
    }

    /// <summary>Breaks a connection off with RST and keeps the descriptor: connecting to "unspecified" disconnects.</summary>
    public static void Disconnect(int descriptor)
    {
        var address = stackalloc byte[16];
        new Span<byte>(address, 16).Clear();
        // Lingering for no time makes the kernel send RST whatever state the connection is in, and drop what was not sent.
        var linger = stackalloc int[2] { 1, 0 };
        _ = SetSocketOption(descriptor, LevelSocket, 13, linger, 8);
        _ = Connect(descriptor, address, 16);
    }

    /// <summary>Moves bytes between a socket and a pipe, inside the kernel. Waits for neither, whatever the descriptors say.</summary>
    public static nint Splice(int from, int to, nint most) => Splice(from, null, to, null, most, SpliceMove | SpliceNonBlock);

    /// <summary>Opens a pipe that holds about so many bytes, or what the kernel grants.</summary>
    public static bool TryOpenPipe(int bytes, out int readEnd, out int writeEnd, out int capacity)
    {
        var ends = stackalloc int[2];
        if (OpenPipe(ends, NonBlockCloseOnExec) != 0)
        {
            readEnd = writeEnd = capacity = -1;
            return false;
        }

        readEnd = ends[0];
        writeEnd = ends[1];
        capacity = FileControl(writeEnd, SetPipeSize, bytes);
        if (capacity <= 0)
        {
            capacity = FileControl(writeEnd, GetPipeSize, 0);
        }

        return true;
    }

    public static bool IsTooMany(int error) => error is TooManyFilesInProcess or TooManyFilesInSystem or NoBuffers or NoMemory;

    /// <summary>The class library's name of an error number.</summary>
    public static int ToSocketError(int error) => (int)(error switch
    {
        111 => System.Net.Sockets.SocketError.ConnectionRefused,
        104 => System.Net.Sockets.SocketError.ConnectionReset,
        ConnectionAborted => System.Net.Sockets.SocketError.ConnectionAborted,
        110 => System.Net.Sockets.SocketError.TimedOut,
        113 => System.Net.Sockets.SocketError.HostUnreachable,
        101 => System.Net.Sockets.SocketError.NetworkUnreachable,
        AddressInUse => System.Net.Sockets.SocketError.AddressAlreadyInUse,
        99 => System.Net.Sockets.SocketError.AddressNotAvailable,
        13 or 1 => System.Net.Sockets.SocketError.AccessDenied,
        97 => System.Net.Sockets.SocketError.AddressFamilyNotSupported,
        2 => System.Net.Sockets.SocketError.HostNotFound,
        32 => System.Net.Sockets.SocketError.Shutdown,
        TooManyFilesInProcess or TooManyFilesInSystem => System.Net.Sockets.SocketError.TooManyOpenSockets,
        NoBuffers or NoMemory => System.Net.Sockets.SocketError.NoBufferSpaceAvailable,
        _ => System.Net.Sockets.SocketError.SocketError,
    });

    /// <summary>Reads an address as the kernel lays it out. IPv4 in IPv6 (a dual mode listener) becomes IPv4.</summary>
    public static EndPoint? ToEndPoint(ReadOnlySpan<byte> address)
    {
        if (address.Length < 2)
        {
            return null;
        }

        switch (MemoryMarshal.Read<ushort>(address))
        {
            case FamilyIPv4 when address.Length >= 8:
                return new IPEndPoint(new IPAddress(address.Slice(4, 4)), (address[2] << 8) | address[3]);
            case FamilyIPv6 when address.Length >= 28:
                var ip = new IPAddress(address.Slice(8, 16), MemoryMarshal.Read<uint>(address[24..]));
                return new IPEndPoint(ip.IsIPv4MappedToIPv6 ? ip.MapToIPv4() : ip, (address[2] << 8) | address[3]);
            case FamilyUnix:
                var path = address[2..];
                var end = path.IndexOf((byte)0);
                path = end >= 0 ? path[..end] : path;
                return path.IsEmpty ? null : new UnixDomainSocketEndPoint(System.Text.Encoding.UTF8.GetString(path));
            default:
                return null;
        }
    }

    private static int FamilyOf(EndPoint endPoint) => endPoint.AddressFamily switch
    {
        AddressFamily.InterNetwork => FamilyIPv4,
        AddressFamily.InterNetworkV6 => FamilyIPv6,
        AddressFamily.Unix => FamilyUnix,
        _ => throw new NotSupportedException($"The address {endPoint} is neither IPv4, IPv6 nor a socket in the file system."),
    };

    private static void SetFlag(int descriptor, int level, int name, int value) => _ = SetSocketOption(descriptor, level, name, &value, sizeof(int));

    [LibraryImport("libc", EntryPoint = "splice", SetLastError = true)]
    private static partial nint Splice(int from, long* fromOffset, int to, long* toOffset, nint most, uint flags);

    [LibraryImport("libc", EntryPoint = "pipe2", SetLastError = true)]
    private static partial int OpenPipe(int* ends, int flags);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int FileControl(int descriptor, int command, int value);

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    private static partial nint SendMessage(int descriptor, MessageHeader* message, int flags);

    [LibraryImport("libc", EntryPoint = "epoll_ctl", SetLastError = true)]
    private static partial int EpollControl(int epoll, int operation, int descriptor, void* registered);

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    private static partial int NewSocket(int family, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "connect", SetLastError = true)]
    private static partial int Connect(int descriptor, byte* address, int length);

    [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
    private static partial int Bind(int descriptor, byte* address, int length);

    [LibraryImport("libc", EntryPoint = "accept4", SetLastError = true)]
    private static partial int Accept4(int descriptor, byte* address, int* length, int flags);

    [LibraryImport("libc", EntryPoint = "getsockname", SetLastError = true)]
    private static partial int GetSocketName(int descriptor, byte* address, int* length);

    [LibraryImport("libc", EntryPoint = "getsockopt", SetLastError = true)]
    private static partial int GetSocketOption(int descriptor, int level, int name, void* value, int* length);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    private static partial int SetSocketOption(int descriptor, int level, int name, void* value, int length);
}
