using System.Runtime.InteropServices;
using MeshProxy.Http;
using Microsoft.AspNetCore.Connections;

namespace MeshProxy.DataPlane.Transport;

/// <summary>What an event loop tells of its descriptor's events.</summary>
internal interface IEventTarget
{
    /// <summary>Events of <see cref="LinuxSocket"/>, on the loop's thread: return soon, never block, never throw.</summary>
    void OnEvents(uint events);
}

/// <summary>
/// One thread that waits for the events of many descriptors and runs what follows inline. Edge-triggered: a descriptor is registered once, for both
/// directions, and never changed. The writes that one round of events causes are sent together at its end (<see cref="FlushBatch"/>), so
/// that many exchanges that answer over one multiplexed connection share a system call.
/// </summary>
internal sealed class EventLoop
{
    // Bounds what a flush can wait for its round to end.
    private const int EventsPerRound = 64;

    [ThreadStatic]
    private static EventLoop? t_current;

    private static int s_next;

    private readonly Lock _gate = new();
    private readonly int _number;
    private readonly int _epoll;
    private readonly Queue<IEventTarget> _again = new();
    private volatile Slot[] _slots = NewSlots([], 256);
    private int[] _free = new int[256];
    private int _freeCount;
    private int _used;

    private EventLoop(int number)
    {
        _number = number;
        _epoll = LinuxSocket.EpollCreate(0x80000);
        if (_epoll < 0)
        {
            throw new System.Net.Sockets.SocketException(LinuxSocket.ToSocketError(LinuxSocket.LastError));
        }

        new Thread(Run) { IsBackground = true, Name = $"loop-{number}" }.UnsafeStart();
    }

    /// <summary>The process's loops, one for each processor.</summary>
    public static EventLoop[] All { get; } = [.. Enumerable.Range(0, Environment.ProcessorCount).Select(number => new EventLoop(number))];

    /// <summary>The calling thread's loop; null on a thread that is none.</summary>
    public static EventLoop? Current => t_current;

    /// <summary>The number of the calling thread's loop, from 0; on a thread that is none, the number of loops.</summary>
    public static int CurrentNumber => t_current is { } current ? current._number : Environment.ProcessorCount;

    /// <summary>This loop's number, from 0.</summary>
    public int Number => _number;

    /// <summary>True on this loop's own thread.</summary>
    public bool IsCurrent => t_current == this;

    /// <summary>Counts the rounds: tells a target whether it is still in the same one.</summary>
    public long Round { get; private set; }

    /// <summary>The number of the loop that a connection lives on; of one of another transport, the number of loops.</summary>
    public static int NumberOf(ConnectionContext connection) => connection switch
    {
        SocketConnection socket => socket.Loop.Number,
        TlsConnection tls => NumberOf(tls.Raw),
        _ => Environment.ProcessorCount,
    };

    /// <summary>The loop of the calling thread, so that both ends of a proxied exchange live on one thread; elsewhere each in turn.</summary>
    public static EventLoop Near() => t_current ?? Next();

    /// <summary>Each loop in turn.</summary>
    public static EventLoop Next() => All[(int)((uint)Interlocked.Increment(ref s_next) % (uint)All.Length)];

    /// <summary>Registers a descriptor for good: it leaves by being closed, after <see cref="Forget"/>.</summary>
    /// <returns>The place to name in <see cref="Forget"/>.</returns>
    public int Register(int descriptor, IEventTarget target, uint events)
    {
        int slot;
        uint generation;
        lock (_gate)
        {
            if (_freeCount > 0)
            {
                slot = _free[--_freeCount];
            }
            else
            {
                if (_used == _slots.Length)
                {
                    _slots = NewSlots(_slots, _used * 2);
                }

                slot = _used++;
            }

            generation = _slots[slot].Generation;
            _slots[slot].Target = target;
        }

        try
        {
            LinuxSocket.EpollAdd(_epoll, descriptor, events | LinuxSocket.EventEdge, ((ulong)generation << 32) | (uint)slot);
        }
        catch
        {
            Forget(slot);
            throw;
        }

        return slot;
    }

    /// <summary>Gives the place free. Events of it that are still on their way find another generation there and are dropped.</summary>
    public void Forget(int slot)
    {
        lock (_gate)
        {
            // In this order: see Slot.At.
            _slots[slot].Generation++;
            _slots[slot].Target = null;
            if (_freeCount == _free.Length)
            {
                Array.Resize(ref _free, _freeCount * 2);
            }

            _free[_freeCount++] = slot;
        }
    }

    /// <summary>Takes a descriptor out that stays open.</summary>
    public void Unregister(int descriptor, int slot)
    {
        LinuxSocket.EpollRemove(_epoll, descriptor);
        Forget(slot);
    }

    /// <summary>Tells the target again in the next round, after the others had their turn. Only on the loop's own thread.</summary>
    public void Again(IEventTarget target) => _again.Enqueue(target);

    private static Slot[] NewSlots(Slot[] old, int count) => [.. old, .. Enumerable.Range(0, count - old.Length).Select(_ => new Slot())];

    private unsafe void Run()
    {
        t_current = this;
        var packed = RuntimeInformation.ProcessArchitecture is Architecture.X64;
        var size = packed ? sizeof(LinuxSocket.PackedEvent) : sizeof(LinuxSocket.AlignedEvent);
        var events = (byte*)NativeMemory.Alloc(EventsPerRound, (nuint)size);
        while (true)
        {
            var again = _again.Count;
            var count = LinuxSocket.EpollWait(_epoll, events, EventsPerRound, again > 0 ? 0 : -1);
            Round++;
            using (FlushBatch.Enter())
            {
                for (var i = 0; i < count; i++)
                {
                    var entry = events + (i * size);
                    var mask = *(uint*)entry;
                    var data = packed ? ((LinuxSocket.PackedEvent*)entry)->Data : ((LinuxSocket.AlignedEvent*)entry)->Data;
                    _slots[(uint)data].At((uint)(data >> 32))?.OnEvents(mask);
                }

                while (again-- > 0)
                {
                    _again.Dequeue().OnEvents(LinuxSocket.EventIn);
                }
            }
        }
    }

    /// <summary>A registered target, for as long as the generation stays. Written under the loop's lock, read without.</summary>
    private sealed class Slot
    {
        public volatile IEventTarget? Target;
        public volatile uint Generation;

        /// <summary>The target, unless it was forgotten: the generation changes first, so that a target that was read before it changed is the right one.</summary>
        public IEventTarget? At(uint generation)
        {
            var target = Target;
            return Generation == generation ? target : null;
        }
    }
}
