using Google.Protobuf;
using MeshProxy.Api.Control.V1;
using MeshProxy.Sidecar.State;

namespace MeshProxy.Sidecar.Discovery;

/// <summary>The last good configuration in the state directory: the messages of a frame, each with its length before it. Holds the keys of a gateway's
/// certificates, like the directory holds our own.</summary>
internal static class KeptConfiguration
{
    public const string File = "config.bin";

    /// <summary>Keeps what the applier has in force.</summary>
    /// <exception cref="IOException">The disk is full or failing.</exception>
    /// <exception cref="UnauthorizedAccessException">The directory may not be written.</exception>
    public static void Save(StateDirectory state, SnapshotApplier applier)
    {
        using var stream = new MemoryStream();
        foreach (var message in applier.Export())
        {
            message.WriteDelimitedTo(stream);
        }

        state.Write(File, stream.GetBuffer().AsSpan(0, (int)stream.Length));
    }

    /// <summary>Puts what was kept in force.</summary>
    /// <returns>False when nothing was kept.</returns>
    /// <exception cref="InvalidProtocolBufferException">What is there is broken.</exception>
    /// <exception cref="IOException">It can not be read.</exception>
    public static bool Load(StateDirectory state, SnapshotApplier applier)
    {
        if (state.Read(File) is not { } bytes)
        {
            return false;
        }

        var stream = new MemoryStream(bytes);
        while (stream.Position < stream.Length)
        {
            var message = ControlMessage.Parser.ParseDelimitedFrom(stream);
            switch (message.MessageCase)
            {
                case ControlMessage.MessageOneofCase.Begin:
                    applier.Begin();
                    break;
                case ControlMessage.MessageOneofCase.Unit:
                    applier.Add(message.Unit);
                    break;
                case ControlMessage.MessageOneofCase.Endpoints:
                    applier.Apply(message.Endpoints);
                    break;
                case ControlMessage.MessageOneofCase.Commit:
                    applier.Commit("", message.Commit.MeshRevision);
                    applier.Flush();
                    break;
            }
        }

        return applier.IsApplied;
    }
}
