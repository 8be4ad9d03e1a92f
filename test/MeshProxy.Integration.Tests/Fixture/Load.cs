using System.Collections.Concurrent;
using System.Globalization;

namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>A few clients over keep-alive connections that never stop asking, and remember every answer that was not as it should be.</summary>
internal sealed class Load : IAsyncDisposable
{
    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentQueue<string> _failures = new();
    private readonly HttpClient _http;
    private readonly string _service;
    private readonly Task[] _clients;
    private int _done;
    private int _id;

    private Load(int port, string service, int clients, bool executes)
    {
        _http = Via.Http(port);
        _service = service;
        _clients = [.. Enumerable.Range(0, clients).Select(_ => Task.Run(() => AskAsync(executes)))];
    }

    public int Done => Volatile.Read(ref _done);

    /// <summary>The ids of POSTs that were answered with success.</summary>
    public ConcurrentBag<string> Acknowledged { get; } = [];

    /// <summary>Failures so far, in words.</summary>
    public string[] Failures => [.. _failures];

    /// <summary>GETs; with <paramref name="executes"/> POSTs to /execute/{id}, each id once.</summary>
    public static async Task<Load> StartAsync(int port, string service, int clients = 4, bool executes = false)
    {
        var load = new Load(port, service, clients, executes);
        await load.MoreAsync(clients);
        return load;
    }

    /// <summary>Waits until so many more requests are answered.</summary>
    public async Task MoreAsync(int requests)
    {
        var target = Done + requests;
        await Eventually.IsTrueAsync(() => Task.FromResult(Done >= target), $"{requests} more requests are answered");
    }

    /// <summary>Ends the clients and returns the failures.</summary>
    public async Task<string[]> StopAsync()
    {
        await _stop.CancelAsync();
        await Task.WhenAll(_clients);
        return Failures;
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        _http.Dispose();
        _stop.Dispose();
    }

    private async Task AskAsync(bool executes)
    {
        while (!_stop.IsCancellationRequested)
        {
            var id = Interlocked.Increment(ref _id).ToString(CultureInfo.InvariantCulture);
            try
            {
                using var response = executes
                    ? await _http.PostAsync($"http://{_service}/execute/{id}", new StringContent(id))
                    : await _http.GetAsync($"http://{_service}/hello");
                var body = await response.Content.ReadAsStringAsync();
                if (!response.IsSuccessStatusCode)
                {
                    _failures.Enqueue($"{(int)response.StatusCode} {body.Trim()}");
                }
                else if (executes)
                {
                    Acknowledged.Add(id);
                }
            }
            catch (Exception failure) when (failure is HttpRequestException or IOException or TaskCanceledException)
            {
                _failures.Enqueue($"{failure.Message} {failure.InnerException?.Message}");
            }

            Interlocked.Increment(ref _done);
            // Paced, so that the tests beside this one get their turn too.
            await Task.Delay(5);
        }
    }
}
