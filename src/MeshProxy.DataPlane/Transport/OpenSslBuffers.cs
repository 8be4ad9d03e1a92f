using System.Runtime.InteropServices;

namespace MeshProxy.DataPlane.Transport;

/// <summary>
/// Has OpenSSL give the record buffers of a connection back whenever they are empty (SSL_MODE_RELEASE_BUFFERS): about 9 KB less for each idle connection. The
/// runtime has no setting for it. OpenSSL tells whoever registers ex_data for contexts of every context that is made (CRYPTO_get_ex_new_index(3)), the runtime's
/// too, and a context's mode is inherited by its connections. With another OpenSSL than version 3 nothing happens.
/// </summary>
internal static unsafe partial class OpenSslBuffers
{
    private const int ClassOfContexts = 1;
    private const int ControlMode = 33;
    private const int ReleaseBuffers = 0x10;

    private static readonly bool s_isReleasing = Register();

    /// <summary>To be called before the first handshake. True: idle connections hold no record buffers.</summary>
    public static bool ReleaseWhenIdle() => s_isReleasing;

    private static bool Register()
    {
        try
        {
            // Both libraries must be there: a callback cannot fail.
            return Version() >> 28 == 3 && ControlContext(0, 0, 0, 0) == 0 && RegisterExtraData(ClassOfContexts, 0, 0, &OnContextMade, 0, 0) >= 0;
        }
        catch (Exception missing) when (missing is DllNotFoundException or EntryPointNotFoundException)
        {
            return false;
        }
    }

    [UnmanagedCallersOnly]
    private static void OnContextMade(nint context, nint data, nint all, int index, nint number, nint argument) => ControlContext(context, ControlMode, ReleaseBuffers, 0);

    [LibraryImport("libcrypto.so.3", EntryPoint = "OpenSSL_version_num")]
    private static partial nuint Version();

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_CTX_ctrl")]
    private static partial nint ControlContext(nint context, int command, nint number, nint argument);

    [LibraryImport("libcrypto.so.3", EntryPoint = "CRYPTO_get_ex_new_index")]
    private static partial int RegisterExtraData(
        int @class, nint number, nint argument, delegate* unmanaged<nint, nint, nint, int, nint, nint, void> made, nint duplicated, nint freed);
}
