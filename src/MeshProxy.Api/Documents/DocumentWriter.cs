namespace MeshProxy.Api.Documents;

/// <summary>Writes documents back for people and for the store.</summary>
public static class DocumentWriter
{
    /// <summary>One YAML document, with status when there are conditions.</summary>
    /// <param name="document">What to write.</param>
    /// <param name="conditions">Become status.</param>
    /// <param name="showSecrets">Also write the data of a Secret: for the store alone. Otherwise only lengths are written.</param>
    public static string ToYaml(Document document, IEnumerable<ConditionInfo>? conditions = null, bool showSecrets = false) => throw new NotImplementedException();

    /// <summary>One JSON object, with status when there are conditions. With <paramref name="showSecrets"/> it reads back as the same document.</summary>
    /// <param name="document">What to write.</param>
    /// <param name="conditions">Become status.</param>
    /// <param name="showSecrets">Also write the data of a Secret: for the store alone. Otherwise only lengths are written.</param>
    public static string ToJson(Document document, IEnumerable<ConditionInfo>? conditions = null, bool showSecrets = false) => throw new NotImplementedException();
}
