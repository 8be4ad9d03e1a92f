using System.Buffers.Text;
using MeshProxy.Http.Fields;

namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// When one exchange must be over: the shortest of <c>grpc-timeout</c> (gRPC over HTTP/2: one to eight digits and a unit), <c>x-request-timeout</c>
/// (milliseconds) and the route's own bound. The fields that the request carries go out reduced by what has passed, so that every hop knows what is left.
/// Counted in microseconds, because gRPC's units go below a millisecond and what goes out must never be more than what came; the tick that enforces it is
/// coarser. Zero is a deadline that has passed (grpc-go sends "0n" for one), never "none".
/// </summary>
internal struct RequestDeadline
{
    private const long Never = long.MaxValue;
    private const int MaxGrpcDigits = 8;
    private const long GrpcValues = 100_000_000;

    // More milliseconds than anyone means; below it the sum with the clock can not overflow.
    private const int MaxMillisecondDigits = 12;

    private long _at;

    /// <summary>On the monotonic clock, rounded up to what the coarse tick counts in.</summary>
    public readonly long Milliseconds => _at == Never ? Never : (_at + 999) / 1000;

    /// <summary>Whether there is one.</summary>
    public readonly bool IsSet => _at != Never;

    /// <summary>Whether the caller's field is what bounds the exchange, not the route.</summary>
    public bool IsCallers { get; private set; }

    /// <summary>Removes what a caller outside of the mesh may not decide.</summary>
    public static void Remove(FieldMap fields)
    {
        fields.Remove(KnownField.GrpcTimeout);
        fields.Remove(KnownField.XRequestTimeout);
    }

    /// <summary>Reads the caller's fields.</summary>
    /// <param name="fields">The request's.</param>
    /// <param name="now">The clock in microseconds when the head was complete.</param>
    /// <returns>False when a field is malformed or stands there twice: nobody knows what was meant, and a deadline is not guessed at.</returns>
    public bool TryRead(FieldMap fields, long now)
    {
        _at = Never;
        IsCallers = false;
        if (fields.TryGet(KnownField.GrpcTimeout, out var value))
        {
            if (fields.CountOf(KnownField.GrpcTimeout) > 1 || !TryParseGrpc(value, out var timeout))
            {
                return false;
            }

            _at = now + timeout;
            IsCallers = true;
        }

        if (fields.TryGet(KnownField.XRequestTimeout, out value))
        {
            if (fields.CountOf(KnownField.XRequestTimeout) > 1 || value.Length > MaxMillisecondDigits || !TryParseDigits(value, out var timeout))
            {
                return false;
            }

            _at = Math.Min(_at, now + (timeout * 1000));
            IsCallers = true;
        }

        return true;
    }

    /// <summary>The route's bound, when it is shorter.</summary>
    public void Bound(long now, TimeSpan timeout)
    {
        var at = now + (timeout.Ticks / TimeSpan.TicksPerMicrosecond);
        if (at < _at)
        {
            _at = at;
            IsCallers = false;
        }
    }

    /// <summary>Whether it has passed.</summary>
    public readonly bool HasPassed(long now) => now >= _at;

    /// <summary>Writes what is left into the fields that the request has; never zero, which would be refused before it is sent.</summary>
    /// <param name="fields">The request's.</param>
    /// <param name="now">The clock in microseconds.</param>
    /// <param name="attemptEnd">When this attempt is given up, in microseconds, if that is sooner.</param>
    public readonly void Write(FieldMap fields, long now, long attemptEnd)
    {
        var left = Math.Max(1, Math.Min(_at, attemptEnd) - now);
        Span<byte> text = stackalloc byte[20];
        if (fields.Contains(KnownField.GrpcTimeout))
        {
            fields.Set(KnownField.GrpcTimeout, text[..FormatGrpc(left, text)]);
        }

        if (fields.Contains(KnownField.XRequestTimeout))
        {
            Utf8Formatter.TryFormat(Math.Max(1, left / 1000), text, out var length);
            fields.Set(KnownField.XRequestTimeout, text[..length]);
        }
    }

    /// <summary>"1S", "250m": one to eight digits, then the unit. In microseconds, rounded up.</summary>
    internal static bool TryParseGrpc(ReadOnlySpan<byte> value, out long microseconds)
    {
        microseconds = 0;
        if (value.Length is < 2 or > MaxGrpcDigits + 1 || !TryParseDigits(value[..^1], out var count))
        {
            return false;
        }

        switch (value[^1])
        {
            case (byte)'n':
                microseconds = (count + 999) / 1000;
                return true;
            case (byte)'u':
                microseconds = count;
                return true;
            case (byte)'m':
                microseconds = count * 1000;
                return true;
            case (byte)'S':
                microseconds = count * 1_000_000;
                return true;
            case (byte)'M':
                microseconds = count * 60_000_000;
                return true;
            case (byte)'H':
                microseconds = count * 3_600_000_000;
                return true;
            default:
                return false;
        }
    }

    /// <summary>The finest unit in which it has at most eight digits, rounded down.</summary>
    internal static int FormatGrpc(long microseconds, Span<byte> text)
    {
        var (count, unit) = microseconds switch
        {
            < GrpcValues => (microseconds, (byte)'u'),
            < GrpcValues * 1000 => (microseconds / 1000, (byte)'m'),
            < GrpcValues * 1_000_000 => (microseconds / 1_000_000, (byte)'S'),
            < GrpcValues * 60_000_000 => (microseconds / 60_000_000, (byte)'M'),
            _ => (Math.Min(microseconds / 3_600_000_000, GrpcValues - 1), (byte)'H'),
        };
        Utf8Formatter.TryFormat(count, text, out var length);
        text[length] = unit;
        return length + 1;
    }

    // Nothing but digits: no sign, no space.
    private static bool TryParseDigits(ReadOnlySpan<byte> text, out long value)
    {
        value = 0;
        foreach (var b in text)
        {
            if (b is < (byte)'0' or > (byte)'9')
            {
                return false;
            }

            value = (value * 10) + (b - '0');
        }

        return !text.IsEmpty;
    }
}
