using System.Globalization;
using System.Runtime.CompilerServices;
using MeshProxy.Api.Documents;

namespace MeshProxy.Api.Tests.Documents;

public class LimitRows
{
    [Test]
    public void The_readme_says_what_the_code_does()
    {
        var readme = File.ReadAllText(Path.Combine(Path.GetDirectoryName(Here())!, "../../../src/MeshProxy.Api/README.md"));
        var limits = new Dictionary<string, int>
        {
            [nameof(DocumentLimits.MaxSourceCharacters)] = DocumentLimits.MaxSourceCharacters,
            [nameof(DocumentLimits.MaxDepth)] = DocumentLimits.MaxDepth,
            [nameof(DocumentLimits.MaxOpenBrackets)] = DocumentLimits.MaxOpenBrackets,
            [nameof(DocumentLimits.MaxNodes)] = DocumentLimits.MaxNodes,
            [nameof(DocumentLimits.MaxDocuments)] = DocumentLimits.MaxDocuments,
            [nameof(DocumentLimits.MaxErrorsPerDocument)] = DocumentLimits.MaxErrorsPerDocument,
        };
        Assert.That(typeof(DocumentLimits).GetFields().Select(field => field.Name), Is.EquivalentTo(limits.Keys));
        foreach (var (name, value) in limits)
        {
            Assert.That(readme, Does.Contain($"| `{name}` | {value.ToString(CultureInfo.InvariantCulture)} |"));
        }
    }

    private static string Here([CallerFilePath] string path = "") => path;
}
