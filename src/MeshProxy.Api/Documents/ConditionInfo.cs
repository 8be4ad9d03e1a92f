namespace MeshProxy.Api.Documents;

/// <summary>What became of a document, as Gateway API writes it in status.</summary>
/// <param name="Type">Accepted, ResolvedRefs, Programmed, Conflicted.</param>
/// <param name="Status">Whether it holds.</param>
/// <param name="Reason">The specification's word for why.</param>
/// <param name="Message">For people: what to do next.</param>
/// <param name="Parent">The parentRef or listener it is about ("Service shop/payments", "Gateway shop/edge", "listener https"); empty: the document itself.</param>
public sealed record ConditionInfo(string Type, bool Status, string Reason, string Message, string Parent = "");
