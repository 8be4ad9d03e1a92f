using MeshProxy.Model.Config;
using MeshProxy.Model.Validation;
using MeshProxy.Testing;

namespace MeshProxy.Model.Tests;

public class ReadmeTests
{
    [Test]
    public void Every_limit_stands_in_the_readme()
    {
        var limits = ReadmeLimits.In(typeof(ClusterConfig).Assembly);
        ReadmeLimits.Add(limits, new CircuitBreakerConfig());
        ReadmeLimits.Add(limits, new ClusterConfig { Id = new ClusterId(new ResourceName("shop", "payments"), 80) }, "ConnectTimeout");
        ReadmeLimits.Add(limits, typeof(NameRules), "MaxLabelLength", "MaxNameLength");
        ReadmeLimits.Add(limits, typeof(HttpRules), "MaxValueLength", "MaxFieldValueLength");
        ReadmeLimits.Check("MeshProxy.Model", limits);
    }

    [Test]
    public void Every_project_has_a_readme()
    {
        var projects = Directory.EnumerateDirectories(Path.Combine(ReadmeTable.RepositoryRoot(), "src"));
        Assert.Multiple(() =>
        {
            foreach (var project in projects.Where(folder => Directory.EnumerateFiles(folder, "*.csproj").Any()))
            {
                var readme = Path.Combine(project, "README.md");
                Assert.That(readme, Does.Exist);
                var headings = File.ReadLines(readme).Where(line => line.StartsWith('#')).ToArray();
                Assert.That(headings, Does.Contain("## What we do not support"), project);
                Assert.That(headings, Does.Contain("## Limits"), project);
            }
        });
    }
}
