// Each test has processes and ports of its own or only reads what its fixture shares. Three at a time: two cores have other work too.
[assembly: Parallelizable(ParallelScope.Fixtures)]
[assembly: LevelOfParallelism(3)]

// The executables run where epoll is.
[assembly: System.Runtime.Versioning.SupportedOSPlatform("linux")]
[assembly: Platform("Linux", Reason = "meshproxy runs on Linux")]
