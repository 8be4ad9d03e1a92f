using System.Runtime.Versioning;

// File modes and mounts are tested where they exist.
[assembly: SupportedOSPlatform("linux")]
