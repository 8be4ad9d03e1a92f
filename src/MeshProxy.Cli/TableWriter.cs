using Spectre.Console;

namespace MeshProxy.Cli;

/// <summary>Tables: coloured on a terminal, aligned columns everywhere else, so that awk and grep can work with them.</summary>
internal static class TableWriter
{
    public static void Write(TextWriter output, string[] headers, IReadOnlyList<string[]> rows)
    {
        if (ReferenceEquals(output, Console.Out) && !Console.IsOutputRedirected && Environment.GetEnvironmentVariable("NO_COLOR") is null or "")
        {
            var table = new Table().Border(TableBorder.None);
            foreach (var header in headers)
            {
                table.AddColumn(new TableColumn($"[bold]{Markup.Escape(header)}[/]").NoWrap());
            }

            table.Columns[^1].NoWrap = false;
            foreach (var row in rows)
            {
                table.AddRow(row.Select(cell => new Markup(Coloured(cell))).ToArray());
            }

            AnsiConsole.Write(table);
            return;
        }

        var widths = headers.Select((header, column) => rows.Select(row => row[column].Length).Append(header.Length).Max()).ToArray();
        foreach (var row in rows.Prepend(headers))
        {
            output.WriteLine(string.Concat(row.Select((cell, column) => column == row.Length - 1 ? cell : cell.PadRight(widths[column] + 3))).TrimEnd());
        }
    }

    private static string Coloured(string cell) => cell switch
    {
        "True" or "yes" => $"[green]{cell}[/]",
        "no" => $"[red]{cell}[/]",
        _ when cell.StartsWith("False", StringComparison.Ordinal) => $"[red]{Markup.Escape(cell)}[/]",
        _ => Markup.Escape(cell),
    };
}
