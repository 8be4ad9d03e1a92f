namespace MeshProxy.DataPlane.Snapshots;

/// <summary>The one place where the snapshot in force is found. Written by the configuration thread, read once per exchange.</summary>
internal sealed class SnapshotCell
{
    private volatile ProxySnapshot _current = ProxySnapshot.Empty;

    public ProxySnapshot Current
    {
        get => _current;
        set => _current = value;
    }
}
