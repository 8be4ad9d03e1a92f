using System.Runtime.InteropServices;
using MeshProxy.DataPlane.Transport;

namespace MeshProxy.DataPlane.Tests.Transport;

internal sealed partial class OpenSslBuffersTests
{
    private const int ControlMode = 33;
    private const int ReleaseBuffers = 0x10;

    [Test]
    public void Every_context_of_the_process_releases_its_buffers()
    {
        if (!NativeLibrary.TryLoad("libssl.so.3", out _))
        {
            Assert.Ignore("there is no OpenSSL 3 here");
        }

        Assert.That(OpenSslBuffers.ReleaseWhenIdle(), Is.True);
        var context = NewContext(Method());
        Assert.That(context, Is.Not.Zero);
        Assert.That(ControlContext(context, ControlMode, 0, 0) & ReleaseBuffers, Is.EqualTo((nint)ReleaseBuffers));
        FreeContext(context);
    }

    [LibraryImport("libssl.so.3", EntryPoint = "TLS_method")]
    private static partial nint Method();

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_CTX_new")]
    private static partial nint NewContext(nint method);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_CTX_ctrl")]
    private static partial nint ControlContext(nint context, int command, nint number, nint argument);

    [LibraryImport("libssl.so.3", EntryPoint = "SSL_CTX_free")]
    private static partial void FreeContext(nint context);
}
