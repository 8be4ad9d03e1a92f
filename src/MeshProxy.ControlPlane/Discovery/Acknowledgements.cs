using MeshProxy.Api.Control.V1;

namespace MeshProxy.ControlPlane.Discovery;

/// <summary>
/// What one sidecar was sent and what it said to it. A revision counts as accepted when everything sent up to it is acknowledged and no unit stands
/// rejected; a rejected unit stands until the sidecar accepts a later one of that name, or gives the name up.
/// </summary>
/// <remarks>Not thread-safe: owned by the lock of <see cref="SidecarStream"/>.</remarks>
internal sealed class Acknowledgements(int maxPending)
{
    /// <summary>Stands for every endpoint set, as a unit's name.</summary>
    public static readonly IReadOnlyList<string> Endpoints = ["endpoints"];

    private readonly LinkedList<Pending> _pending = new();
    private readonly Dictionary<string, string> _rejected = new(StringComparer.Ordinal);
    private long _nonce;

    /// <summary>The mesh revision that has been sent whole.</summary>
    public long Sent { get; private set; }

    /// <summary>The mesh revision that has been accepted whole.</summary>
    public long Accepted { get; private set; }

    /// <summary>The last rejection that still stands.</summary>
    public string LastRejection { get; private set; } = "";

    /// <summary>A nonce for a message that is about to be sent.</summary>
    /// <param name="revision">Its mesh revision.</param>
    /// <param name="units">The units in it.</param>
    public string Next(long revision, IReadOnlyList<string> units)
    {
        _nonce++;
        if (_pending.Count == maxPending)
        {
            // Its answer will not be known when it comes. What was never answered must not look accepted.
            foreach (var unit in _pending.First!.Value.Units)
            {
                _rejected[unit] = LastRejection = $"{Short(unit)}: not acknowledged while {maxPending} later messages were sent";
            }

            _pending.RemoveFirst();
        }

        _pending.AddLast(new Pending(_nonce, revision, units));
        return Text(_nonce);
    }

    /// <summary>Everything of a mesh revision has been written.</summary>
    public void OnSent(long revision)
    {
        Sent = revision;
        Settle();
    }

    /// <summary>The sidecar answered.</summary>
    /// <returns>False when the nonce is none that is awaited.</returns>
    public bool OnAcknowledged(Acknowledge answer)
    {
        var node = _pending.First;
        while (node is not null && Text(node.Value.Nonce) != answer.Nonce)
        {
            node = node.Next;
        }

        if (node is null)
        {
            return false;
        }

        _pending.Remove(node);
        foreach (var unit in node.Value.Units)
        {
            _rejected.Remove(unit);
        }

        foreach (var rejection in answer.Rejections)
        {
            LastRejection = $"{Short(rejection.Name)}: {(rejection.Field.Length > 0 ? Short(rejection.Field) + ": " : "")}{Short(rejection.Reason)}";

            // It stands under a name that was in the message, so that a later message can clear it.
            var units = node.Value.Units;
            if (units.Count > 0)
            {
                _rejected[units.Contains(rejection.Name) ? rejection.Name : units[0]] = LastRejection;
            }
        }

        if (answer.Rejections.Count == 0)
        {
            LastRejection = _rejected.Count > 0 ? _rejected.Values.First() : "";

            // Endpoints and units of one revision are several messages: it is accepted with the last of them.
            var whole = Math.Min(node.Value.Revision, Sent);
            if (_rejected.Count == 0 && whole > Accepted && (_pending.First is not { } oldest || oldest.Value.Revision > whole))
            {
                Accepted = whole;
            }
        }

        Settle();
        return true;
    }

    /// <summary>Names whose last unit is rejected, or not answered yet: the sidecar may have an earlier one in force.</summary>
    public HashSet<string> Unsettled()
    {
        var names = new HashSet<string>(_rejected.Keys, StringComparer.Ordinal);
        foreach (var pending in _pending)
        {
            names.UnionWith(pending.Units);
        }

        return names;
    }

    /// <summary>The sidecar gave a name up.</summary>
    public void Forget(string unit)
    {
        if (_rejected.Remove(unit))
        {
            LastRejection = _rejected.Count > 0 ? _rejected.Values.First() : "";
            Settle();
        }
    }

    /// <summary>A revision that changed nothing for this sidecar needs no message to be accepted.</summary>
    private void Settle()
    {
        if (_pending.Count == 0 && _rejected.Count == 0 && Sent > Accepted)
        {
            Accepted = Sent;
        }
    }

    private static string Text(long nonce) => nonce.ToString(System.Globalization.CultureInfo.InvariantCulture);

    private static string Short(string text) => text.Length <= 512 ? text : text[..512];

    private readonly record struct Pending(long Nonce, long Revision, IReadOnlyList<string> Units);
}
