namespace MeshProxy.Http.Http1;

/// <summary>What was wrong with a message.</summary>
/// <param name="Status">The status that answers it when it is a request; a response with any error is a 502 for the forwarder.</param>
/// <param name="Detail">A short snake_case detail, a constant.</param>
public readonly record struct Http1Error(int Status, string Detail)
{
    /// <summary>True when something was wrong.</summary>
    public bool IsError => Status != 0;
}

/// <summary>How far a parser came.</summary>
public enum Http1ParseStatus : byte
{
    /// <summary>More bytes are needed.</summary>
    NeedMore,

    /// <summary>The head is complete.</summary>
    Done,

    /// <summary>The message is refused; nothing after it can be read.</summary>
    Failed,
}
