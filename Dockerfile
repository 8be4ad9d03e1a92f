# Every RUN line is a plain command that runs outside a container as well, from the repository's root; CI runs them so.

FROM mcr.microsoft.com/dotnet/sdk:10.0 AS build
RUN apt-get update && apt-get install -y --no-install-recommends clang zlib1g-dev
WORKDIR /source
COPY . .
RUN deploy/publish

# Chiselled: glibc, OpenSSL and CA certificates, no shell, no package manager; the user `app` has number 1654.
FROM mcr.microsoft.com/dotnet/runtime-deps:10.0-noble-chiseled
COPY --from=build /source/artifacts/publish/bin/ /usr/local/bin/
USER 1654:1654
# 15001 outbound, 15006 inbound, 15020 metrics and health; 15012 and 15014 belong to meshproxy-control. 15000 (admin) stays on loopback.
EXPOSE 15001 15006 15020 15012 15014
ENTRYPOINT ["/usr/local/bin/meshproxy"]
