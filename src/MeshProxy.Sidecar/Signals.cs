using System.Runtime.InteropServices;

namespace MeshProxy.Sidecar;

/// <summary>SIGTERM and SIGINT: the first begins the drain, the second ends the process. SIGHUP opens the access log again.</summary>
internal sealed class Signals : IDisposable
{
    private readonly List<PosixSignalRegistration> _registrations = [];
    private int _stops;

    /// <summary>Takes the signals over.</summary>
    /// <param name="onStop">Told with true for the first signal, with false for every further one.</param>
    /// <param name="onReopen">Told of SIGHUP.</param>
    public Signals(Action<bool> onStop, Action onReopen)
    {
        foreach (var signal in new[] { PosixSignal.SIGTERM, PosixSignal.SIGINT })
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                onStop(Interlocked.Increment(ref _stops) == 1);
            }));
        }

        _registrations.Add(PosixSignalRegistration.Create(PosixSignal.SIGHUP, context =>
        {
            context.Cancel = true;
            onReopen();
        }));
    }

    /// <inheritdoc/>
    public void Dispose() => _registrations.ForEach(registration => registration.Dispose());
}
