using System.Globalization;

namespace MeshProxy.Demo.Screen;

/// <summary>A few lines now and then, for logs and pipes.</summary>
internal sealed class PlainScreen(TextWriter output) : IScreen
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);
    private readonly Lock _writing = new();
    private TimeSpan _next;

    public void Say(string what)
    {
        lock (_writing)
        {
            output.WriteLine(what);
        }
    }

    public void Show(Frame frame)
    {
        if (frame.Elapsed < _next)
        {
            return;
        }

        _next = frame.Elapsed + Interval;
        lock (_writing)
        {
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"-- {frame.Elapsed.TotalSeconds:0} of {frame.Duration.TotalSeconds:0} s"));
            foreach (var row in frame.Rows)
            {
                output.WriteLine(string.Create(
                    CultureInfo.InvariantCulture,
                    $"   {row.Service,-12} {row.Instances,-4} requests {row.Requests,7}  success {row.SuccessPercent,6:0.00} %  p50 {row.P50,7:0.0} ms  p99 {row.P99,7:0.0} ms  {row.Tls,-18} {row.Callers}"));
            }
        }
    }

    public void Dispose() => output.Flush();
}
