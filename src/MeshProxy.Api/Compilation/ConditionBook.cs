using System.Collections.Immutable;
using MeshProxy.Api.Documents;
using MeshProxy.Model.Config;

namespace MeshProxy.Api.Compilation;

/// <summary>Conditions while they are found. The words for reasons are Gateway API's.</summary>
internal sealed class ConditionBook
{
    private readonly Dictionary<(string, ResourceName), List<ConditionInfo>> _conditions = [];

    public void Add(Document document, string type, bool status, string reason, string message, string parent = "")
    {
        var key = (document.Kind, document.Name);
        if (!_conditions.TryGetValue(key, out var list))
        {
            _conditions[key] = list = [];
        }

        list.Add(new ConditionInfo(type, status, reason, message, parent));
    }

    public void Accept(Document document, string parent = "") => Add(document, "Accepted", true, "Accepted", "", parent);

    public void Refuse(Document document, string reason, string message, string parent = "") => Add(document, "Accepted", false, reason, message, parent);

    public ImmutableDictionary<(string Kind, ResourceName Name), ImmutableArray<ConditionInfo>> ToImmutable() =>
        _conditions.ToImmutableDictionary(pair => pair.Key, pair => pair.Value.ToImmutableArray());
}
