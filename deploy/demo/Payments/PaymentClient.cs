using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using MeshProxy.Demo.Apps;

namespace MeshProxy.Demo.Payments;

/// <summary>
/// Posts payments at a fixed rate whether or not earlier ones were answered (an open loop), so that a stall shows as latency and not as
/// fewer requests. It retries nothing: what was not acknowledged counts as failed.
/// </summary>
internal sealed class PaymentClient : IDisposable
{
    /// <summary>Beyond this many unanswered payments the client stops sending; the run then misses its count and fails.</summary>
    private const int MostUnderWay = 4_000;
    private static readonly TimeSpan AnswerBound = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan LongestExtension = TimeSpan.FromSeconds(60);
    private readonly HttpClient _http;
    private readonly TimeProvider _time;
    private readonly ConcurrentQueue<PaymentAttempt> _ended = new();
    private long _startTimestamp;
    private int _sent;
    private int _underWay;

    public PaymentClient(int gatewayPort, TimeProvider time)
    {
        _time = time;
        _http = new HttpClient(new SocketsHttpHandler { UseProxy = false, AllowAutoRedirect = false })
        {
            BaseAddress = new Uri($"http://127.0.0.1:{gatewayPort}"),
            Timeout = AnswerBound,
        };
    }

    public int Sent => Volatile.Read(ref _sent);

    public int UnderWay => Volatile.Read(ref _underWay);

    /// <summary>Every payment that has ended so far, in no particular order.</summary>
    public IReadOnlyCollection<PaymentAttempt> Ended => _ended;

    /// <summary>How long the run has been going; zero before it starts.</summary>
    public TimeSpan Elapsed => _startTimestamp == 0 ? TimeSpan.Zero : _time.GetElapsedTime(_startTimestamp);

    /// <summary>
    /// Asks for <c>/check</c>, which walks the whole chain and books nothing, until <paramref name="inARow"/> answers in a row are good.
    /// Returns the last answer that was not, when the bound passes first.
    /// </summary>
    public async Task<string?> WarmUpAsync(int inARow, TimeSpan bound, CancellationToken token)
    {
        var start = _time.GetTimestamp();
        var last = "no answer";
        for (var good = 0; good < inARow;)
        {
            if (_time.GetElapsedTime(start) > bound)
            {
                return last;
            }

            try
            {
                using var response = await _http.GetAsync("/check", token);
                if (response.StatusCode == HttpStatusCode.OK)
                {
                    good++;
                    continue;
                }

                last = await DescribeAsync(response, token);
            }
            catch (Exception failure) when (failure is HttpRequestException or TaskCanceledException && !token.IsCancellationRequested)
            {
                last = failure.Message;
            }

            good = 0;
            await Task.Delay(TimeSpan.FromMilliseconds(200), _time, token);
        }

        return null;
    }

    /// <summary>How many payments the rate asks for in the time that was spent sending.</summary>
    public int Expected { get; private set; }

    /// <summary>Starts the clock that every offset counts from.</summary>
    public void Start() => _startTimestamp = _time.GetTimestamp();

    /// <summary>
    /// Runs the open loop, then waits (bounded) for the answers that are still out. On a machine too busy to play the script in time it goes on,
    /// bounded too, until <paramref name="script"/> has ended: what happens to the mesh must happen under traffic.
    /// </summary>
    public async Task RunAsync(int rate, TimeSpan duration, Task script, CancellationToken token)
    {
        var total = (int)Math.Round(rate * duration.TotalSeconds);
        var most = (int)Math.Round(rate * (duration + LongestExtension).TotalSeconds);
        for (var number = 0; number < total || (!script.IsCompleted && number < most); number++)
        {
            Expected = number + 1;
            var due = TimeSpan.FromSeconds((double)number / rate);
            var early = due - Elapsed;
            if (early > TimeSpan.Zero)
            {
                await Task.Delay(early, _time, token);
            }

            if (UnderWay < MostUnderWay)
            {
                _ = PayAsync(number, due);
            }
        }

        var lastSent = _time.GetTimestamp();
        while (UnderWay > 0 && _time.GetElapsedTime(lastSent) < AnswerBound + TimeSpan.FromSeconds(2))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), _time, token);
        }
    }

    public void Dispose() => _http.Dispose();

    private async Task PayAsync(int number, TimeSpan due)
    {
        Interlocked.Increment(ref _sent);
        Interlocked.Increment(ref _underWay);
        var id = string.Create(CultureInfo.InvariantCulture, $"payment-{number:D7}");
        var sent = Elapsed;
        string? version = null;
        string? failure = null;
        try
        {
            var order = new PaymentOrder(id, 100 + (number % 9_900), "EUR");
            using var response = await _http.PostAsJsonAsync("/payments", order, CheckoutJson.Default.PaymentOrder);
            if (response.StatusCode == HttpStatusCode.Created)
            {
                version = (await response.Content.ReadFromJsonAsync(CheckoutJson.Default.PaymentAnswer))?.Version;
            }
            else
            {
                failure = await DescribeAsync(response, CancellationToken.None);
            }
        }
        catch (TaskCanceledException)
        {
            failure = $"no answer within {AnswerBound.TotalSeconds:0} s";
        }
        catch (Exception broken)
        {
            // Whatever it was: the payment was not acknowledged, and the run goes on.
            failure = broken.Message;
        }
        finally
        {
            _ended.Enqueue(new PaymentAttempt(id, due, sent, Elapsed, version, failure));
            Interlocked.Decrement(ref _underWay);
        }
    }

    private static async Task<string> DescribeAsync(HttpResponseMessage response, CancellationToken token)
    {
        var body = await response.Content.ReadAsStringAsync(token);
        return string.Create(CultureInfo.InvariantCulture, $"{(int)response.StatusCode} {(body.Length > 300 ? body[..300] : body).Trim()}");
    }
}
