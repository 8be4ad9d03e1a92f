using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using MeshProxy.Model.Identity;

namespace MeshProxy.DataPlane.Identity;

/// <summary>Our own X.509-SVID with its private key, ready for handshakes. Immutable; replaced whole at renewal.</summary>
public sealed class Svid
{
    /// <summary>Takes a leaf with its private key, and its intermediates.</summary>
    public Svid(SpiffeId id, X509Certificate2 leaf, X509Certificate2Collection intermediates)
    {
        Id = id;
        Leaf = leaf;
        Intermediates = intermediates;
        NotAfter = new DateTimeOffset(leaf.NotAfter.ToUniversalTime(), TimeSpan.Zero);
        NotBefore = new DateTimeOffset(leaf.NotBefore.ToUniversalTime(), TimeSpan.Zero);
        Context = SslStreamCertificateContext.Create(leaf, intermediates, offline: true);
    }

    /// <summary>Who we are.</summary>
    public SpiffeId Id { get; }

    /// <summary>The certificate, with its key.</summary>
    public X509Certificate2 Leaf { get; }

    /// <summary>What is sent besides the leaf.</summary>
    public X509Certificate2Collection Intermediates { get; }

    /// <summary>Valid from.</summary>
    public DateTimeOffset NotBefore { get; }

    /// <summary>Valid until.</summary>
    public DateTimeOffset NotAfter { get; }

    /// <summary>Built once, used by every handshake.</summary>
    public SslStreamCertificateContext Context { get; }
}

/// <summary>Where handshakes get our certificate. The narrower <see cref="ITrustView"/> is for code that must not see keys.</summary>
public interface ISvidSource
{
    /// <summary>The current certificate; null before the first was issued.</summary>
    Svid? Current { get; }
}

/// <summary>Where handshakes get the roots to judge peers by.</summary>
public interface ITrustView
{
    /// <summary>The current roots; null before the first were received.</summary>
    TrustBundle? Bundle { get; }

    /// <summary>Raised after the roots changed: live connections are judged again. Handlers return at once.</summary>
    event Action<TrustBundle>? BundleChanged;
}

/// <summary>Holds the current certificate and roots; written by the certificate client, read by every handshake.</summary>
public sealed class SvidStore : ISvidSource, ITrustView
{
    private volatile Svid? _svid;
    private volatile TrustBundle? _bundle;

    /// <inheritdoc/>
    public event Action<TrustBundle>? BundleChanged;

    /// <inheritdoc/>
    public Svid? Current => _svid;

    /// <inheritdoc/>
    public TrustBundle? Bundle => _bundle;

    /// <summary>Puts a certificate in force for handshakes that begin from now on.</summary>
    public void Update(Svid svid) => _svid = svid;

    /// <summary>Puts roots in force.</summary>
    public void Update(TrustBundle bundle)
    {
        var changed = _bundle?.Revision != bundle.Revision;
        _bundle = bundle;
        if (changed)
        {
            BundleChanged?.Invoke(bundle);
        }
    }
}
