using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

[assembly: DisableRuntimeMarshalling]

namespace MeshProxy.Load;

/// <summary>
/// The Linux and OpenSSL calls of the generator. The generator shares its cores with what it measures, so it must cost little: one thread, one epoll
/// set, no task and no allocation for a request. That rules out SslStream and the .NET socket engine here, good as they are in a server.
/// </summary>
internal static unsafe partial class Native
{
    internal const int EAgain = 11;
    internal const int EInProgress = 115;
    internal const int EpollIn = 1;
    internal const int EpollOut = 4;
    internal const int EpollErr = 8;
    internal const int EpollHup = 16;
    internal const int EpollAdd = 1;
    internal const int EpollDel = 2;
    internal const int EpollMod = 3;
    internal const int MsgDontWaitNoSignal = 0x40 | 0x4000;
    internal const int PrSetTimerSlack = 29;

    internal const int SslErrorWantRead = 2;
    internal const int SslErrorWantWrite = 3;
    internal const int SslErrorSyscall = 5;
    internal const int SslErrorZeroReturn = 6;

    /// <summary>struct epoll_event is packed on x64 only: its size and the offset of its data member differ.</summary>
    internal static readonly int EpollEventSize = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 12 : 16;

    internal static readonly int EpollDataOffset = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 4 : 8;

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    internal static partial int Socket(int domain, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "connect", SetLastError = true)]
    internal static partial int Connect(int fd, byte* address, int length);

    [LibraryImport("libc", EntryPoint = "close")]
    internal static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "recv", SetLastError = true)]
    internal static partial nint Receive(int fd, byte* buffer, nint length, int flags);

    [LibraryImport("libc", EntryPoint = "send", SetLastError = true)]
    internal static partial nint Send(int fd, byte* buffer, nint length, int flags);

    [LibraryImport("libc", EntryPoint = "setsockopt")]
    internal static partial int SetSocketOption(int fd, int level, int name, int* value, int length);

    [LibraryImport("libc", EntryPoint = "getsockopt")]
    internal static partial int GetSocketOption(int fd, int level, int name, int* value, int* length);

    [LibraryImport("libc", EntryPoint = "epoll_create1")]
    internal static partial int EpollCreate(int flags);

    [LibraryImport("libc", EntryPoint = "epoll_ctl")]
    internal static partial int EpollControl(int epoll, int operation, int fd, byte* epollEvent);

    [LibraryImport("libc", EntryPoint = "epoll_pwait2")]
    internal static partial int EpollWait(int epoll, byte* events, int count, long* timeout, void* signals);

    [LibraryImport("libc", EntryPoint = "prctl")]
    internal static partial int ProcessControl(int option, ulong a, ulong b, ulong c, ulong d);

    [LibraryImport("libssl.so.3", EntryPoint = "TLS_client_method")]
    internal static partial nint TlsClientMethod();

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_CTX_new")]
    internal static partial nint SslContextNew(nint method);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_CTX_ctrl")]
    internal static partial nint SslContextControl(nint context, int command, nint value, void* pointer);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_CTX_set_alpn_protos")]
    internal static partial int SslContextSetAlpn(nint context, byte* protocols, uint length);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_new")]
    internal static partial nint SslNew(nint context);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_free")]
    internal static partial void SslFree(nint ssl);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_set_fd")]
    internal static partial int SslSetFd(nint ssl, int fd);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_ctrl")]
    internal static partial nint SslControl(nint ssl, int command, nint value, void* pointer);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_set_connect_state")]
    internal static partial void SslSetConnectState(nint ssl);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_do_handshake")]
    internal static partial int SslDoHandshake(nint ssl);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_read")]
    internal static partial int SslRead(nint ssl, byte* buffer, int length);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_write")]
    internal static partial int SslWrite(nint ssl, byte* buffer, int length);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_get_error")]
    internal static partial int SslGetError(nint ssl, int result);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_shutdown")]
    internal static partial int SslShutdown(nint ssl);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_session_reused")]
    internal static partial int SslSessionReused(nint ssl);

    [LibraryImport("libcrypto.so.3", EntryPoint = "ERR_clear_error")]
    internal static partial void ErrorClear();
}
