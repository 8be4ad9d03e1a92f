namespace MeshProxy.Http.Tests;

internal sealed class WakeupTests
{
    [Test]
    public async Task A_set_before_the_wait_is_not_lost_and_is_good_for_one()
    {
        var wakeup = new Wakeup();
        wakeup.Set();
        await wakeup;
        var second = WaitAsync(wakeup);
        Assert.That(second.IsCompleted, Is.False);
        wakeup.Set();
        Assert.That(second.IsCompletedSuccessfully, "the waiter goes on inside of Set");
    }

    [Test]
    public void Two_sets_before_the_wait_are_one()
    {
        var wakeup = new Wakeup();
        wakeup.Set();
        wakeup.Set();
        Assert.That(WaitAsync(wakeup).IsCompletedSuccessfully);
        Assert.That(WaitAsync(wakeup).IsCompleted, Is.False);
    }

    [Test]
    public async Task Two_threads_that_wake_each_other_miss_nothing()
    {
        const int Rounds = 100_000;
        var ping = new Wakeup();
        var pong = new Wakeup();
        var other = Task.Run(async () =>
        {
            for (var i = 0; i < Rounds; i++)
            {
                await ping;
                // Elsewhere, so that setting and waiting meet in every order.
                await Task.Yield();
                pong.Set();
            }
        });
        var own = Task.Run(async () =>
        {
            for (var i = 0; i < Rounds; i++)
            {
                ping.Set();
                await pong;
            }
        });
        await Task.WhenAll(other, own).WaitAsync(TimeSpan.FromSeconds(60));
    }

    private static async Task WaitAsync(Wakeup wakeup) => await wakeup;
}
