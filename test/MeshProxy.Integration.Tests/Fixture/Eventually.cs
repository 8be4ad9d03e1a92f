namespace MeshProxy.Integration.Tests.Fixture;

/// <summary>Waits for what another process does, by asking it until it says so.</summary>
internal static class Eventually
{
    public static Task IsTrueAsync(Func<Task<bool>> condition, string description, TimeSpan? bound = null) =>
        GetAsync(async () => await condition() ? "" : null, description, bound);

    public static async Task<T> GetAsync<T>(Func<Task<T?>> ask, string description, TimeSpan? bound = null)
        where T : class
    {
        using var deadline = new CancellationTokenSource(bound ?? TimeSpan.FromSeconds(30));
        Exception? last = null;
        while (!deadline.IsCancellationRequested)
        {
            try
            {
                if (await ask() is { } answer)
                {
                    return answer;
                }
            }
            catch (Exception failure) when (failure is HttpRequestException or IOException or System.Net.Sockets.SocketException or TaskCanceledException)
            {
                last = failure;
            }

            await Task.Delay(50, CancellationToken.None);
        }

        throw new AssertionException($"{description}: did not come true in time{(last is null ? "" : $" ({last.Message})")}");
    }
}
