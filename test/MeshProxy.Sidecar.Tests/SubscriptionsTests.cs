using MeshProxy.Sidecar.Discovery;

namespace MeshProxy.Sidecar.Tests;

internal sealed class SubscriptionsTests
{
    private readonly SteppedTime _time = new();

    [Test]
    public void IdleOnesExpireAndUsedAndDeclaredOnesStay()
    {
        var subscriptions = new Subscriptions(_time);
        subscriptions.TryAdd("idle", isPinned: false, out _);
        subscriptions.TryAdd("used", isPinned: false, out _);
        subscriptions.TryAdd("declared", isPinned: true, out _);
        _time.Step(Subscriptions.IdleExpiry - TimeSpan.FromSeconds(1));
        subscriptions.Touch("used");
        _time.Step(TimeSpan.FromSeconds(2));
        Assert.That(subscriptions.Expire(), Is.EqualTo(new[] { "idle" }));
        Assert.That(subscriptions.Names, Is.EquivalentTo(new[] { "used", "declared" }));
    }

    [Test]
    public void UnknownNamesAreKeptForAShortTimeOnly()
    {
        var subscriptions = new Subscriptions(_time);
        subscriptions.TryAdd("unknown", isPinned: false, out _);
        subscriptions.OnAnswer("unknown", isAbsent: true);
        _time.Step(Subscriptions.NegativeExpiry + TimeSpan.FromSeconds(1));
        Assert.That(subscriptions.Expire(), Is.EqualTo(new[] { "unknown" }));
    }

    [Test]
    public void InventedNamesCanNotPushRealOnesOut()
    {
        var subscriptions = new Subscriptions(_time, maximum: 2);
        subscriptions.TryAdd("real", isPinned: false, out _);
        subscriptions.TryAdd("invented-1", isPinned: false, out _);
        subscriptions.OnAnswer("invented-1", isAbsent: true);
        Assert.That(subscriptions.TryAdd("invented-2", isPinned: false, out var evicted), Is.True);
        Assert.That(evicted, Is.EqualTo(new[] { "invented-1" }));
        Assert.That(subscriptions.TryAdd("invented-3", isPinned: false, out _), Is.False, "the others were used within the last minute");
        _time.Step(TimeSpan.FromMinutes(2));
        subscriptions.Touch("real");
        Assert.That(subscriptions.TryAdd("new", isPinned: false, out evicted), Is.True);
        Assert.That(evicted, Is.EqualTo(new[] { "invented-2" }));
    }

    private sealed class SteppedTime : TimeProvider
    {
        private long _now = 1;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _now;

        public void Step(TimeSpan by) => _now += by.Ticks;
    }
}
