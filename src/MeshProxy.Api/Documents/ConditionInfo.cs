using System.Collections.Immutable;

namespace MeshProxy.Api.Documents;

/// <summary>What became of a document, as Gateway API writes it in status.</summary>
/// <param name="Type">Accepted, ResolvedRefs, Programmed, Conflicted.</param>
/// <param name="Status">Whether it holds.</param>
/// <param name="Reason">The specification's word for why.</param>
/// <param name="Message">For people: what to do next.</param>
/// <param name="Parent">The parentRef or listener it is about ("Service shop/payments", "Gateway shop/edge", "listener https"); empty: the document itself.</param>
public sealed record ConditionInfo(string Type, bool Status, string Reason, string Message, string Parent = "")
{
    /// <summary>True when it tells of something that is not as meant: a condition that does not hold, and a Conflicted one that does.</summary>
    public bool IsProblem => Status == (Type == "Conflicted");
}

/// <summary>What Gateway API's status says of a listener besides its conditions.</summary>
/// <param name="Name">The listener's name.</param>
/// <param name="SupportedKinds">The kinds of routes that it takes.</param>
/// <param name="AttachedRoutes">How many routes are attached and accepted.</param>
public sealed record ListenerStatus(string Name, ImmutableArray<string> SupportedKinds, int AttachedRoutes);

/// <summary>Everything that status says.</summary>
/// <param name="Conditions">What became of the document.</param>
/// <param name="Generation">Which state of the document that is about; 0: not counted.</param>
public sealed record DocumentStatus(ImmutableArray<ConditionInfo> Conditions, ulong Generation = 0)
{
    /// <summary>The listeners of a Gateway.</summary>
    public ImmutableArray<ListenerStatus> Listeners { get; init; } = [];
}
