using System.Text.Json;

namespace MeshProxy.Load;

/// <summary>What a run counted. "All" includes the warm-up: it is what CPU time of a proxy has to be divided by.</summary>
internal sealed class LoadResult
{
    private const int NotesLimit = 5;
    private readonly Dictionary<string, int> _notes = [];

    internal LatencyHistogram Latency { get; } = new();

    internal TimeSpan Measured { get; set; }

    internal long AllRequests { get; set; }

    internal long CompletedInWindow { get; set; }

    internal long BadStatus { get; set; }

    internal long Errors { get; set; }

    internal long Unfinished { get; set; }

    internal long Connects { get; set; }

    internal long Reconnects { get; set; }

    internal long Handshakes { get; set; }

    internal long ResumedHandshakes { get; set; }

    internal long BodyBytes { get; set; }

    internal string? Fatal { get; set; }

    internal void Note(string note)
    {
        if (_notes.TryGetValue(note, out var count) || _notes.Count < NotesLimit)
        {
            _notes[note] = count + 1;
        }
    }

    internal void WriteJson(Stream stream)
    {
        using var json = new Utf8JsonWriter(stream);
        json.WriteStartObject();
        json.WriteNumber("requests", AllRequests);
        json.WriteNumber("requests_per_second", CompletedInWindow / Math.Max(1e-9, Measured.TotalSeconds));
        json.WriteNumber("bad_status", BadStatus);
        json.WriteNumber("errors", Errors);
        json.WriteNumber("unfinished", Unfinished);
        json.WriteNumber("connects", Connects);
        json.WriteNumber("reconnects", Reconnects);
        json.WriteNumber("handshakes", Handshakes);
        json.WriteNumber("resumed_handshakes", ResumedHandshakes);
        json.WriteNumber("body_bytes", BodyBytes);
        json.WriteNumber("measured", Latency.Count);
        foreach (var (name, share) in new[] { ("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999) })
        {
            json.WriteNumber(name, Latency.Percentile(share) / 1000.0);
        }

        json.WriteNumber("mean_us", Latency.Mean / 1000);
        json.WriteNumber("max_us", Latency.Maximum / 1000.0);
        json.WriteStartObject("notes");
        foreach (var (note, count) in _notes)
        {
            json.WriteNumber(note, count);
        }

        json.WriteEndObject();
        if (Fatal is not null)
        {
            json.WriteString("fatal", Fatal);
        }

        json.WriteEndObject();
    }
}
