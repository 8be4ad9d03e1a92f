using System.Collections.Frozen;
using System.Security.Cryptography.X509Certificates;
using MeshProxy.DataPlane.Transport;

namespace MeshProxy.DataPlane.Snapshots;

/// <summary>The certificates of one listener, chosen by the server name that a client asks for: the one that has the very name, then one with a wildcard for its
/// first label, else the first in the document.</summary>
internal sealed class ServerCertificates
{
    private readonly TlsServerIdentity _first;
    private readonly FrozenDictionary<string, TlsServerIdentity> _names;

    /// <param name="identities">In the document's order, at least one; of two with one name the first has it.</param>
    public ServerCertificates(IReadOnlyList<TlsServerIdentity> identities)
    {
        _first = identities[0];
        var names = new Dictionary<string, TlsServerIdentity>(StringComparer.OrdinalIgnoreCase);
        foreach (var identity in identities)
        {
            foreach (var name in identity.Context.TargetCertificate.Extensions.OfType<X509SubjectAlternativeNameExtension>().SelectMany(extension => extension.EnumerateDnsNames()))
            {
                names.TryAdd(name, identity);
            }
        }

        _names = names.ToFrozenDictionary(StringComparer.OrdinalIgnoreCase);
    }

    /// <summary>The certificate for a server name; null: the client named none.</summary>
    public TlsServerIdentity Choose(string? serverName)
    {
        if (serverName is null)
        {
            return _first;
        }

        var dot = serverName.IndexOf('.');
        return _names.TryGetValue(serverName, out var found) || (dot > 0 && _names.TryGetValue("*" + serverName[dot..], out found)) ? found : _first;
    }
}
