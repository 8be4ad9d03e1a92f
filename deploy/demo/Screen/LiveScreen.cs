using System.Globalization;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace MeshProxy.Demo.Screen;

/// <summary>The table that redraws itself, with what happened below it. Spectre.Console's live display is used by one task only.</summary>
internal sealed class LiveScreen : IScreen
{
    private const int LinesKept = 12;
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);
    private readonly Lock _state = new();
    private readonly Queue<string> _said = new();
    private readonly CancellationTokenSource _ended = new();
    private Task? _drawing;
    private Frame? _frame;

    public void Say(string what)
    {
        lock (_state)
        {
            if (_drawing is null || _drawing.IsCompleted)
            {
                AnsiConsole.WriteLine(what);
                return;
            }

            _said.Enqueue(what);
            if (_said.Count > LinesKept)
            {
                _said.Dequeue();
            }
        }
    }

    public void Show(Frame frame)
    {
        lock (_state)
        {
            _frame = frame;
            _drawing ??= Task.Run(DrawAsync);
        }
    }

    /// <summary>Leaves the last table on the screen; what is said afterwards goes below it.</summary>
    public void Dispose()
    {
        if (_ended.IsCancellationRequested)
        {
            return;
        }

        _ended.Cancel();
        _drawing?.Wait(TimeSpan.FromSeconds(2));
    }

    private Task DrawAsync() => AnsiConsole.Live(Render()).StartAsync(async live =>
    {
        while (!_ended.IsCancellationRequested)
        {
            live.UpdateTarget(Render());
            try
            {
                await Task.Delay(Interval, TimeProvider.System, _ended.Token);
            }
            catch (OperationCanceledException)
            {
                // The last picture is drawn below.
            }
        }

        live.UpdateTarget(Render());
    });

    private Rows Render()
    {
        lock (_state)
        {
            var table = new Table().Border(TableBorder.Minimal).Title(string.Create(
                CultureInfo.InvariantCulture, $"MeshProxy: payments, {_frame!.Elapsed.TotalSeconds:0} of {_frame.Duration.TotalSeconds:0} s"));
            table.AddColumn(new TableColumn("service").NoWrap());
            table.AddColumn(new TableColumn("up").NoWrap());
            foreach (var name in (string[])["requests", "success", "p50 ms", "p99 ms"])
            {
                table.AddColumn(new TableColumn(name).RightAligned().NoWrap());
            }

            table.AddColumn(new TableColumn("TLS in").NoWrap());
            table.AddColumn("callers");
            foreach (var row in _frame.Rows)
            {
                var good = row.SuccessPercent is null or >= 99.95;
                table.AddRow(
                    new Text(row.Service, new Style(decoration: Decoration.Bold)),
                    new Text(row.Instances),
                    Number(row.Requests, "N0"),
                    new Text(
                        row.SuccessPercent is { } percent ? percent.ToString("0.00", CultureInfo.InvariantCulture) + " %" : "-",
                        new Style(good ? Color.Green : Color.Yellow)),
                    Number(row.P50, "0.0"),
                    Number(row.P99, "0.0"),
                    new Text(row.Tls, new Style(row.Tls.StartsWith("mutual", StringComparison.Ordinal) ? Color.Green : Color.Grey)),
                    new Text(row.Callers));
            }

            return new Rows([table, .. _said.Select(line => (IRenderable)new Text(line))]);
        }
    }

    private static Text Number(double? value, string format) => new(value?.ToString(format, CultureInfo.InvariantCulture) ?? "-");
}
