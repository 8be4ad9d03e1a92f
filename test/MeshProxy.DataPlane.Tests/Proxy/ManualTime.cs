namespace MeshProxy.DataPlane.Tests.Proxy;

/// <summary>A clock that stands until it is advanced. Timers fire on the thread that advances it, in order.</summary>
internal sealed class ManualTime : TimeProvider
{
    private readonly Lock _gate = new();
    private readonly List<ManualTimer> _timers = [];
    private readonly DateTimeOffset _start = System.GetUtcNow();
    private long _ticks;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => Volatile.Read(ref _ticks);

    public override DateTimeOffset GetUtcNow() => _start.AddTicks(Volatile.Read(ref _ticks));

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new ManualTimer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    /// <summary>Goes on, one timer after the other.</summary>
    public void Advance(TimeSpan by)
    {
        var end = _ticks + by.Ticks;
        while (true)
        {
            ManualTimer? next;
            lock (_gate)
            {
                next = _timers.Where(timer => timer.Due <= end).MinBy(timer => timer.Due);
                if (next is null)
                {
                    Volatile.Write(ref _ticks, end);
                    return;
                }

                Volatile.Write(ref _ticks, Math.Max(_ticks, next.Due));
                next.Due += next.Period;
                if (next.Period <= 0)
                {
                    _timers.Remove(next);
                }
            }

            next.Fire();
        }
    }

    /// <summary>Goes on in small steps, each with a moment for others to follow, until something is done: for what begins to wait while time goes on already.</summary>
    /// <param name="done">What is waited for.</param>
    /// <param name="within">How long it may take on this clock; that much again and more is given to a busy machine.</param>
    public async Task AdvanceUntilAsync(Task done, TimeSpan within)
    {
        for (var gone = TimeSpan.Zero; gone < within * 20 && !done.IsCompleted; gone += TimeSpan.FromMilliseconds(100))
        {
            Advance(TimeSpan.FromMilliseconds(100));
            await Task.WhenAny(done, Task.Delay(TimeSpan.FromMilliseconds(5), System));
        }

        Assert.That(done.IsCompleted, "in time");
    }

    private sealed class ManualTimer(ManualTime owner, TimerCallback callback, object? state) : ITimer
    {
        public long Due { get; set; }

        public long Period { get; private set; }

        public void Fire() => callback(state);

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (owner._gate)
            {
                owner._timers.Remove(this);
                if (dueTime >= TimeSpan.Zero)
                {
                    Due = owner._ticks + dueTime.Ticks;
                    Period = period > TimeSpan.Zero ? period.Ticks : 0;
                    owner._timers.Add(this);
                }

                return true;
            }
        }

        public void Dispose()
        {
            lock (owner._gate)
            {
                owner._timers.Remove(this);
            }
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return default;
        }
    }
}
