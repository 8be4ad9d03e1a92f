using System.Globalization;
using System.Reflection;
using NUnit.Framework;

namespace MeshProxy.Testing;

/// <summary>Holds the table "Limits" of a project's README against the bounds in the code: names, defaults, units.</summary>
public static class ReadmeLimits
{
    /// <summary>Every bound in the types of an assembly whose names end in "Limits": properties of a record, constants of a static class.</summary>
    public static Dictionary<string, object?> In(Assembly assembly)
    {
        var limits = new Dictionary<string, object?>();
        foreach (var type in assembly.GetTypes().Where(type => type.IsClass && type.Name.EndsWith("Limits", StringComparison.Ordinal)))
        {
            if (type is { IsAbstract: true, IsSealed: true })
            {
                Add(limits, type, [.. type.GetFields(BindingFlags.Static | BindingFlags.Public).Select(field => field.Name)]);
            }
            else
            {
                Add(limits, Activator.CreateInstance(type, nonPublic: true)!);
            }
        }

        return limits;
    }

    /// <summary>Adds the public properties of an object: all of them, or those that are named.</summary>
    public static void Add(Dictionary<string, object?> limits, object instance, params string[] names)
    {
        var type = instance.GetType();
        foreach (var property in type.GetProperties(BindingFlags.Instance | BindingFlags.Public).Where(property => names.Length == 0 || names.Contains(property.Name)))
        {
            limits.Add($"{type.Name}.{property.Name}", property.GetValue(instance));
        }
    }

    /// <summary>Adds constants and static fields of a type, private ones too.</summary>
    public static void Add(Dictionary<string, object?> limits, Type type, params string[] names)
    {
        foreach (var name in names)
        {
            var field = type.GetField(name, BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic);
            Assert.That(field, Is.Not.Null, $"{type.Name} has no {name}");
            limits.Add($"{type.Name}.{name}", field!.GetValue(null));
        }
    }

    /// <summary>The README of <paramref name="project"/> must have one row for each, with its default in the row's unit, and what a peer sees of it.</summary>
    public static void Check(string project, IReadOnlyDictionary<string, object?> limits)
    {
        var table = ReadmeTable.Read(project, "Limits");
        table.MustName(limits.Keys);
        Assert.Multiple(() =>
        {
            foreach (var (name, value) in limits)
            {
                table.MustSay(name, "default", In(value, table.Cell(name, "unit").Split(' ', ',')[0], name));
                Assert.That(table.Cell(name, "where it comes from"), Is.Not.Empty, $"{name}: where does the number come from?");
                Assert.That(table.Cell(name, "beyond it"), Is.Not.Empty, $"{name}: what does the peer see?");
            }
        });
    }

    private static string In(object? value, string unit, string name)
    {
        FormattableString text = (value, unit) switch
        {
            (null, _) => $"none",
            (bool flag, _) => $"{(flag ? "yes" : "no")}",
            (TimeSpan time, "ms") => $"{time.TotalMilliseconds}",
            (TimeSpan time, "s") => $"{time.TotalSeconds}",
            (TimeSpan time, "min") => $"{time.TotalMinutes}",
            (TimeSpan time, "h") => $"{time.TotalHours}",
            (TimeSpan time, "d") => $"{time.TotalDays}",
            (TimeSpan, _) => throw new AssertionException($"{name}: '{unit}' is no unit of time"),
            (long.MaxValue, _) => $"none",
            (int bytes, "KiB") => $"{bytes / 1024.0}",
            (int bytes, "MiB") => $"{bytes / 1024.0 / 1024.0}",
            _ => $"{value}",
        };
        return text.ToString(CultureInfo.InvariantCulture);
    }
}
