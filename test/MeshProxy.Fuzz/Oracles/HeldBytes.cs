using System.Collections;
using System.IO.Pipelines;
using System.Reflection;
using System.Runtime.CompilerServices;
using MeshProxy.Http.Http2;
using MeshProxy.Http.Http2.FlowControl;

namespace MeshProxy.Fuzz.Oracles;

/// <summary>
/// What a connection keeps: the bytes of every array that can be reached from it, found by reflection, so that a buffer which nobody counts is counted too. Not the
/// transport's pipes, and not what its handler keeps.
/// </summary>
internal static class HeldBytes
{
    private static readonly Dictionary<Type, FieldInfo[]> s_fields = [];
    private static readonly Lock s_gate = new();

    /// <param name="connection">The connection.</param>
    /// <param name="exchanges">Those that its handler holds: a stream that was reset is the connection's no more.</param>
    /// <returns>All, and what of it are bytes of bodies.</returns>
    public static (long All, long Bodies) Of(object connection, IEnumerable<object> exchanges)
    {
        long bytes = 0;
        long bodies = 0;
        var seen = new HashSet<object>(ReferenceEqualityComparer.Instance);
        var open = new Stack<object>();
        Push(connection);
        PushAll(exchanges);
        while (open.TryPop(out var one))
        {
            if (one is Array array)
            {
                bytes += Size(array);
                if (!array.GetType().GetElementType()!.IsPrimitive)
                {
                    PushAll(array);
                }
            }
            else if (one is Segment segment)
            {
                bytes += segment.Capacity;
                bodies += segment.Written;
                Push(segment.Following);
            }
            else if (one is IEnumerable many)
            {
                PushAll(many);
            }
            else
            {
                foreach (var field in FieldsOf(one.GetType()))
                {
                    Push(field.GetValue(one));
                }
            }
        }

        return (bytes, bodies);

        void PushAll(IEnumerable many)
        {
            foreach (var each in many)
            {
                Push(each);
            }
        }

        void Push(object? value)
        {
            if (value is not null && IsOurs(value) && (value.GetType().IsValueType || seen.Add(value)))
            {
                open.Push(value);
            }
        }
    }

    private static long Size(Array array)
    {
        var element = array.GetType().GetElementType()!;
        return array.Length * (element.IsPrimitive ? System.Runtime.InteropServices.Marshal.SizeOf(element) : element.IsValueType ? 48L : 8L);
    }

    private static bool IsOurs(object value) => value switch
    {
        PipeReader or PipeWriter or Delegate or string or Http2Options or Http2Limits => false,
        Array array => array.Rank == 1,
        _ when value.GetType() is { IsPrimitive: true } or { IsEnum: true } => false,
        IDictionary dictionary => IsOursByName(dictionary.GetType().GenericTypeArguments[^1]),
        IEnumerable when value.GetType().IsGenericType => IsOursByName(value.GetType().GenericTypeArguments[^1]),
        _ => IsOursByName(value.GetType()),
    };

    private static bool IsOursByName(Type type) =>
        type.Namespace?.StartsWith("MeshProxy.Http", StringComparison.Ordinal) == true || (type.FullName?.StartsWith("System.Collections.Generic.KeyValuePair", StringComparison.Ordinal) ?? false);

    private static FieldInfo[] FieldsOf(Type type)
    {
        lock (s_gate)
        {
            if (!s_fields.TryGetValue(type, out var fields))
            {
                var all = new List<FieldInfo>();
                for (var each = type; each is not null && each != typeof(object); each = each.BaseType)
                {
                    all.AddRange(each.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly)
                        .Where(field => !field.FieldType.IsPrimitive && !field.FieldType.IsEnum && !field.FieldType.IsByRefLike && !field.FieldType.IsPointer));
                }

                s_fields[type] = fields = [.. all];
            }

            return fields;
        }
    }
}
