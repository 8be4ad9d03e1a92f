namespace MeshProxy.Api.Compilation;

internal sealed class ServiceIndex;
