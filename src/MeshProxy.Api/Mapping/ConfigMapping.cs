using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using Google.Protobuf;
using MeshProxy.Model.Config;
using Wire = MeshProxy.Api.Control.V1;

namespace MeshProxy.Api.Mapping;

/// <summary>Between messages and the model, field by field. What is not understood is refused, never guessed: an unknown enum value, an unknown filter, a port
/// out of range. TryToModel never throws; on false, field and reason say what to tell the sender. Revisions are not in the messages: set them with <c>with</c>.</summary>
public static class ConfigMapping
{
    /// <summary>The revision of a unit: a hash of the message's bytes, 16 hexadecimal digits. These messages have no maps, so equal content has equal bytes.</summary>
    public static string Revision(IMessage message) => Convert.ToHexStringLower(SHA256.HashData(message.ToByteArray()).AsSpan(0, 8));

    /// <summary>Writes a name.</summary>
    public static Wire.ResourceRef ToProto(ResourceName name) => new() { Namespace = name.Namespace, Name = name.Name };

    /// <summary>Writes a cluster's name.</summary>
    public static Wire.ClusterRef ToProto(ClusterId id) => new() { Service = ToProto(id.Service), Port = (uint)id.Port };

    /// <summary>Writes a destination.</summary>
    public static Wire.Destination ToProto(DestinationConfig destination) => MessageWriter.Write(destination);

    /// <summary>Writes a set of endpoints.</summary>
    public static Wire.EndpointSet ToProto(EndpointSetConfig endpoints) => MessageWriter.Write(endpoints);

    /// <summary>Writes an inbound.</summary>
    public static Wire.Inbound ToProto(InboundConfig inbound) => MessageWriter.Write(inbound);

    /// <summary>Writes a listener, with the keys of its certificates.</summary>
    public static Wire.Listener ToProto(ListenerConfig listener) => MessageWriter.Write(listener);

    /// <summary>Reads a name.</summary>
    public static bool TryToModel(Wire.ResourceRef? message, out ResourceName name, out string field, out string reason)
    {
        var reader = new MessageReader();
        name = reader.Name(message, "name");
        return reader.Ended(out field, out reason);
    }

    /// <summary>Reads a cluster's name.</summary>
    public static bool TryToModel(Wire.ClusterRef? message, out ClusterId id, out string field, out string reason)
    {
        var reader = new MessageReader();
        id = reader.ClusterId(message, "cluster");
        return reader.Ended(out field, out reason);
    }

    /// <summary>Reads a destination.</summary>
    public static bool TryToModel(Wire.Destination message, [NotNullWhen(true)] out DestinationConfig? destination, out string field, out string reason)
    {
        var reader = new MessageReader();
        destination = reader.Destination(message);
        return reader.Ended(ref destination, out field, out reason);
    }

    /// <summary>Reads a set of endpoints.</summary>
    public static bool TryToModel(Wire.EndpointSet message, [NotNullWhen(true)] out EndpointSetConfig? endpoints, out string field, out string reason)
    {
        var reader = new MessageReader();
        endpoints = reader.EndpointSet(message);
        return reader.Ended(ref endpoints, out field, out reason);
    }

    /// <summary>Reads an inbound.</summary>
    public static bool TryToModel(Wire.Inbound message, [NotNullWhen(true)] out InboundConfig? inbound, out string field, out string reason)
    {
        var reader = new MessageReader();
        inbound = reader.Inbound(message);
        return reader.Ended(ref inbound, out field, out reason);
    }

    /// <summary>Reads a listener.</summary>
    public static bool TryToModel(Wire.Listener message, [NotNullWhen(true)] out ListenerConfig? listener, out string field, out string reason)
    {
        var reader = new MessageReader();
        listener = reader.Listener(message);
        return reader.Ended(ref listener, out field, out reason);
    }

    /// <summary>Writes an error for an ApplyReply.</summary>
    public static Wire.DocumentError ToProto(Documents.DocumentError error) => new()
    {
        Source = error.Source,
        Line = error.Line,
        Column = error.Column,
        Document = error.Document,
        Field = error.Field,
        Message = error.Message,
    };

    /// <summary>Reads an error of an ApplyReply.</summary>
    public static Documents.DocumentError ToModel(Wire.DocumentError error) => new(error.Source, error.Line, error.Column, error.Document, error.Field, error.Message);

    /// <summary>Writes a condition.</summary>
    public static Wire.Condition ToProto(Documents.ConditionInfo condition) => new()
    {
        Type = condition.Type,
        Status = condition.Status,
        Reason = condition.Reason,
        Message = condition.Message,
        Parent = condition.Parent,
    };

    /// <summary>Reads a condition.</summary>
    public static Documents.ConditionInfo ToModel(Wire.Condition condition) => new(condition.Type, condition.Status, condition.Reason, condition.Message, condition.Parent);
}
