using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using MeshProxy.Api.Control.V1;
using MeshProxy.Api.Joining;
using MeshProxy.DataPlane.Identity;
using MeshProxy.DataPlane.Telemetry;
using MeshProxy.Model.Identity;
using MeshProxy.Sidecar.State;
using Microsoft.Extensions.Logging;

namespace MeshProxy.Sidecar.Certificates;

/// <summary>
/// Gets the workload's certificate and keeps it fresh. The key is made here for each certificate and never leaves. Renewal begins at half of the life,
/// give or take a tenth, and is tried again until it succeeds; connections are not touched, the new certificate serves the handshakes that follow.
/// </summary>
internal sealed class CertificateClient(
    MeshOptions mesh, StateDirectory? state, SvidStore store, Meters meters, ILogger log, TimeProvider time, Random random)
{
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan FirstRetry = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan MaxRetry = TimeSpan.FromSeconds(30);

    /// <summary>Puts the kept certificate in force, or gets the first one. Waits for the control plane as long as that takes.</summary>
    /// <exception cref="StartException">The token is missing, wrong, late or used; or the kept state can not be used.</exception>
    public async Task<TrustDomain> ObtainAsync(CancellationToken cancellation)
    {
        var kept = state is null ? null : KeptCertificate.Load(state);
        var hasExpired = false;
        if (kept is { } loaded)
        {
            if (loaded.Svid.Id.Namespace != mesh.Namespace || loaded.Svid.Id.ServiceAccount != mesh.ServiceAccount)
            {
                throw new StartException(
                    $"The state directory holds a certificate of {loaded.Svid.Id}, but this workload is {mesh.Namespace}/{mesh.ServiceAccount}: give each workload its own --state-dir.");
            }

            hasExpired = loaded.Svid.NotAfter <= time.GetUtcNow();
            if (!hasExpired)
            {
                store.Update(loaded.Bundle);
                Use(loaded.Svid);
                log.LogInformation(LogEvents.CertificateKept, "{Identity} goes on with the kept certificate, valid until {NotAfter}", loaded.Svid.Id.ToString(), loaded.Svid.NotAfter.ToString("O"));
                return loaded.Svid.Id.TrustDomain;
            }
        }

        var token = ReadToken(hasExpired);
        for (var delay = FirstRetry; ; delay = Longer(delay))
        {
            try
            {
                await JoinAsync(token, cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
                return token.SpiffeId.TrustDomain;
            }
            catch (RpcException exception) when (exception.StatusCode is StatusCode.PermissionDenied or StatusCode.InvalidArgument or StatusCode.Unauthenticated)
            {
                var expired = hasExpired ? "The kept certificate has expired, and the join token does not work any more. " : "";
                throw new StartException($"{expired}The control plane refused the join token: {exception.Status.Detail}", exception);
            }
            catch (RpcException exception) when (!cancellation.IsCancellationRequested)
            {
                log.LogWarning(LogEvents.CertificateFailed, "The control plane {Control} gave no certificate, trying again in {Delay:0.0} s: {Reason}",
                    mesh.Control, delay.TotalSeconds, Reason(exception));
                await Task.Delay(Jitter(delay), time, cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
            }
        }
    }

    /// <summary>Renews until cancelled.</summary>
    public async Task RenewAsync(ControlChannel channel, CancellationToken cancellation)
    {
        while (!cancellation.IsCancellationRequested)
        {
            var delay = UntilRenewal(store.Current!);
            log.LogDebug("The certificate is renewed in {Delay:0} s", delay.TotalSeconds);
            await DelayAsync(delay, cancellation);
            for (var retry = FirstRetry; !cancellation.IsCancellationRequested; retry = Longer(retry))
            {
                try
                {
                    await IssueAsync(new Api.Control.V1.Certificates.CertificatesClient(channel.Channel), token: null, store.Current!.Id, cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
                    channel.Renew(time);
                    meters.OnRenewal(succeeded: true);
                    break;
                }
                catch (Exception exception) when (exception is RpcException or FormatException or CryptographicException or ArgumentException && !cancellation.IsCancellationRequested)
                {
                    meters.OnRenewal(succeeded: false);
                    var left = store.Current!.NotAfter - time.GetUtcNow();

                    // Never slower than a twentieth of what is left: certificates may live for seconds.
                    var next = TimeSpan.FromTicks(Math.Clamp(Math.Min(retry.Ticks, left.Ticks / 20), TimeSpan.TicksPerSecond / 5, MaxRetry.Ticks));
                    log.Log(left < TimeSpan.Zero ? LogLevel.Error : LogLevel.Warning, LogEvents.CertificateFailed,
                        "The certificate was not renewed (it is valid for {Left:0} s more), trying again in {Delay:0.0} s: {Reason}", left.TotalSeconds, next.TotalSeconds, Reason(exception));
                    await DelayAsync(Jitter(next), cancellation);
                }
            }
        }
    }

    /// <summary>When to renew: at half of the life, give or take a tenth of it, so that a fleet that joined at once does not renew at once.</summary>
    internal TimeSpan UntilRenewal(Svid svid)
    {
        var life = svid.NotAfter - svid.NotBefore;
        var at = svid.NotBefore + (life * (0.45 + (0.1 * random.NextDouble())));
        var delay = at - time.GetUtcNow();
        return delay > TimeSpan.Zero ? delay : TimeSpan.Zero;
    }

    private static string Reason(Exception exception) =>
        exception is RpcException rpc ? rpc.Status.DebugException?.GetBaseException().Message ?? rpc.Status.Detail : exception.Message;

    private static TimeSpan Longer(TimeSpan delay) => delay * 2 > MaxRetry ? MaxRetry : delay * 2;

    private TimeSpan Jitter(TimeSpan delay) => delay * (0.8 + (0.4 * random.NextDouble()));

    private async Task DelayAsync(TimeSpan delay, CancellationToken cancellation)
    {
        // Timers hold at most 49 days.
        var capped = delay > TimeSpan.FromDays(30) ? TimeSpan.FromDays(30) : delay;
        await Task.Delay(capped, time, cancellation).ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.SuppressThrowing);
    }

    private JoinToken ReadToken(bool hasExpired)
    {
        var why = hasExpired ? "The kept certificate has expired and needs a new join token" : "There is no kept certificate, so a join token is needed";
        if (mesh.JoinTokenFile is null)
        {
            throw new StartException($"{why}: --join-token-file FILE, made with: meshctl token create --namespace {mesh.Namespace} --service-account {mesh.ServiceAccount}");
        }

        string text;
        try
        {
            text = File.ReadAllText(mesh.JoinTokenFile);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new StartException($"{why}, and it can not be read: {exception.Message}", exception);
        }

        if (!JoinToken.TryParse(text, out var token))
        {
            throw new StartException($"{why}, and '{mesh.JoinTokenFile}' holds none: expected 'mp1.' and its text, as meshctl token create prints it.");
        }

        if (token.SpiffeId.Namespace != mesh.Namespace || token.SpiffeId.ServiceAccount != mesh.ServiceAccount)
        {
            throw new StartException($"The join token is for {token.SpiffeId}, but this workload is {mesh.Namespace}/{mesh.ServiceAccount}: use the token that was made for it.");
        }

        return token.ExpiresAt > time.GetUtcNow()
            ? token
            : throw new StartException($"The join token expired at {token.ExpiresAt.UtcDateTime:O}. Make a new one: meshctl token create.");
    }

    private async Task JoinAsync(JoinToken token, CancellationToken cancellation)
    {
        var trustDomain = token.SpiffeId.TrustDomain;
        string pem;
        using (var unverified = ControlChannel.Unverified(mesh.Control, trustDomain))
        {
            var reply = await new Api.Control.V1.Certificates.CertificatesClient(unverified.Channel)
                .GetTrustBundleAsync(new TrustBundleRequest(), deadline: Deadline(), cancellationToken: cancellation).ResponseAsync.ConfigureAwait(false);
            pem = reply.Pem;
        }

        var roots = new X509Certificate2Collection();
        try
        {
            roots.ImportFromPem(pem);
        }
        catch (CryptographicException)
        {
            // Judged below like any other answer without our root.
        }

        // Of what an unknown server says only the root that the token names is believed.
        var pinned = roots.FirstOrDefault(root => CryptographicOperations.FixedTimeEquals(root.GetCertHash(HashAlgorithmName.SHA256), Convert.FromHexString(token.RootSha256)))
            ?? throw new StartException($"The control plane at {mesh.Control} does not have the root that the join token names: wrong address, or a token of another mesh.");
        var bundle = TrustBundle.FromPem(trustDomain, pinned.ExportCertificatePem());
        using var channel = ControlChannel.ServerOnly(mesh.Control, bundle, time);
        await IssueAsync(new Api.Control.V1.Certificates.CertificatesClient(channel.Channel), token.Encode(), token.SpiffeId, cancellation).ConfigureAwait(false);
    }

    private async Task IssueAsync(Api.Control.V1.Certificates.CertificatesClient client, string? token, SpiffeId expected, CancellationToken cancellation)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var csr = new CertificateRequest("CN=meshproxy", key, HashAlgorithmName.SHA256).CreateSigningRequest();
        var reply = await client.IssueAsync(
            new IssueRequest { CsrDer = ByteString.CopyFrom(csr), JoinToken = token ?? "" },
            deadline: Deadline(),
            cancellationToken: cancellation).ResponseAsync.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        var chain = new X509Certificate2Collection();
        foreach (var der in reply.ChainDer)
        {
            chain.Add(X509CertificateLoader.LoadCertificate(der.Span));
        }

        var svid = KeptCertificate.Assemble(key, chain);
        var bundle = TrustBundle.FromPem(expected.TrustDomain, reply.TrustBundlePem);
        var verdict = SvidValidator.Validate(svid.Leaf, svid.Intermediates, bundle, time.GetUtcNow());
        if (!verdict.IsAccepted || verdict.Identity != expected)
        {
            throw new FormatException($"the control plane issued a certificate that peers will not accept: {verdict.Refused ?? $"it is of {verdict.Identity}"}");
        }

        store.Update(bundle);
        Use(svid);
        log.LogInformation(LogEvents.CertificateIssued, "{Identity} has a certificate until {NotAfter}", svid.Id.ToString(), svid.NotAfter.ToString("O"));
        Keep(key, svid, reply.TrustBundlePem);
    }

    private void Use(Svid svid)
    {
        store.Update(svid);
        meters.OnCertificate("workload", svid.NotAfter);
    }

    private void Keep(ECDsa key, Svid svid, string bundlePem)
    {
        if (state is null)
        {
            return;
        }

        try
        {
            KeptCertificate.Save(state, key, svid, bundlePem);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            log.LogError(LogEvents.StateFailed, "The certificate is in force but could not be kept in {Directory}: {Reason} A restart after {NotAfter} will need a new join token; free space or fix the directory.",
                state.Path, exception.Message, svid.NotAfter.ToString("O"));
        }
    }

    private DateTime Deadline() => (time.GetUtcNow() + CallTimeout).UtcDateTime;
}
