namespace MeshProxy.DataPlane.Forwarding;

/// <summary>
/// A client that sent <c>Expect: 100-continue</c> keeps its body back until somebody says 100 (RFC 9110 section 10.1.1). The endpoint should: its 100, or its
/// final answer, is relayed. An endpoint that knows nothing of it says neither, so after a bounded wait the tick says 100 in its place.
/// <code>
/// Over    --Begin (loop)----> Waiting   the request's head is out, its body is not
/// Waiting --EndAsync (loop)-> Over      a head has come, or the attempt is over: the loop decides
/// Waiting --TryTell (tick)--> Telling   only the tick writes to the downstream now
/// Telling --OnTold (tick)---> Over      a loop that came meanwhile goes on
/// </code>
/// The loop and the tick meet here and nowhere else: while one of them writes to the downstream, the other one waits.
/// </summary>
internal sealed class ContinueGate
{
    private readonly Lock _gate = new();
    private readonly Signal _told = new();
    private volatile State _state;
    private long _deadline;
    private bool _isAwaited;

    private enum State
    {
        Over,
        Waiting,
        Telling,
    }

    /// <summary>Whether the loop has to end it before it goes on.</summary>
    public bool IsOpen => _state != State.Over;

    /// <summary>The body is waited with until <paramref name="deadline"/>.</summary>
    public void Begin(long deadline)
    {
        Volatile.Write(ref _deadline, deadline);
        _state = State.Waiting;
    }

    /// <summary>Goes on waiting, after an informational head that was not the 100.</summary>
    public void Resume() => _state = State.Waiting;

    /// <summary>The tick takes over when the wait is over. It must call <see cref="OnTold"/>.</summary>
    public bool TryTell(long now)
    {
        if (_state != State.Waiting || now < Volatile.Read(ref _deadline))
        {
            return false;
        }

        lock (_gate)
        {
            if (_state != State.Waiting)
            {
                return false;
            }

            _state = State.Telling;
            return true;
        }
    }

    /// <summary>The tick has said 100 and begun the body.</summary>
    public void OnTold()
    {
        bool wake;
        lock (_gate)
        {
            _state = State.Over;
            wake = _isAwaited;
            _isAwaited = false;
        }

        if (wake)
        {
            _told.Set();
        }
    }

    /// <summary>The loop ends the wait, or waits for the tick that is ending it.</summary>
    /// <returns>True when nobody has said 100: the loop decides whether the body is wanted.</returns>
    public async ValueTask<bool> EndAsync()
    {
        lock (_gate)
        {
            if (_state != State.Telling)
            {
                var waited = _state == State.Waiting;
                _state = State.Over;
                return waited;
            }

            _told.Reset();
            _isAwaited = true;
        }

        await _told.WaitAsync();
        return false;
    }
}
