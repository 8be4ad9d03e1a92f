using MeshProxy.Http.Fields;
using MeshProxy.Http.Http2.Frames;
using MeshProxy.Http.Http2.Hpack;

namespace MeshProxy.Http.Http2;

// SETTINGS, ours and the peer's (RFC 9113 section 6.5).
internal sealed partial class Http2Connection
{
    private int _settingsUnacknowledged;
    private int _peerInitialWindow = 65_535;
    private bool _peerMaxStreamsSeen;

    // Written under the lock, read without it: it is only advice (RFC 9113 section 10.5.1), and the peer may change it whenever it likes.
    private long _peerMaxFieldListBytes = long.MaxValue;

    /// <summary>Streams the peer allows at once; unlimited until it says so, within reason.</summary>
    public int PeerMaxStreams { get; private set; } = 100;

    public bool PeerAllowsExtendedConnect { get; private set; }

    /// <summary>True when the peer had time to see our limits.</summary>
    public bool AreSettingsAcknowledged => _settingsUnacknowledged == 0;

    /// <summary>Whether the peer announced to take a field section of that size (SETTINGS_MAX_HEADER_LIST_SIZE). Any thread.</summary>
    public bool PeerTakes(FieldMap trailers) => trailers.ListSize <= Volatile.Read(ref _peerMaxFieldListBytes);

    /// <summary>As <see cref="PeerTakes(FieldMap)"/>, with the Date that is added to a head that <see cref="LacksDate"/>.</summary>
    public bool PeerTakes(ResponseHead head) =>
        head.Fields.ListSize + StatusSize + (LacksDate(head) ? DateSize : 0) <= Volatile.Read(ref _peerMaxFieldListBytes);

    /// <summary>Whether a Date is to be added before the head is sent.</summary>
    public bool LacksDate(ResponseHead head) => Options.Date is not null && !head.IsInformational && !head.IsTunnel && !head.Fields.Contains(KnownField.Date);

    /// <summary>As <see cref="PeerTakes(FieldMap)"/>.</summary>
    public bool PeerTakes(RequestHead head) => head.Fields.ListSize + PseudoFieldsSize(head) <= Volatile.Read(ref _peerMaxFieldListBytes);

    private const int LineOverhead = 32;

    private static int DateSize => LineOverhead + "date"u8.Length + DateField.Length;

    private static int StatusSize => LineOverhead + ":status"u8.Length + 3;

    private static int PseudoFieldsSize(RequestHead head)
    {
        var size = LineOverhead + ":method"u8.Length + head.MethodToken.Length;
        size += head.Authority.IsEmpty ? 0 : LineOverhead + ":authority"u8.Length + head.Authority.Length;
        size += head.Protocol.IsEmpty ? 0 : LineOverhead + ":protocol"u8.Length + head.Protocol.Length;
        return head.Method == RequestMethod.Connect && head.Protocol.IsEmpty
            ? size
            : size + (2 * LineOverhead) + ":scheme"u8.Length + head.Scheme.Length + ":path"u8.Length + head.Path.Length;
    }

    private void WriteOurSettings()
    {
        Span<(SettingId, uint)> settings = stackalloc (SettingId, uint)[6];
        var count = 0;
        settings[count++] = (SettingId.MaxHeaderListSize, (uint)Limits.MaxFieldListBytes);
        settings[count++] = (SettingId.InitialWindowSize, (uint)Limits.InitialStreamWindowBytes);
        if (Limits.MaxHpackTableBytes != HpackDynamicTable.InitialSize)
        {
            settings[count++] = (SettingId.HeaderTableSize, (uint)Limits.MaxHpackTableBytes);
        }

        if (!_role.IsServer)
        {
            settings[count++] = (SettingId.EnablePush, 0);
            Writer.WriteSettings(settings[..count]);
            return;
        }

        settings[count++] = (SettingId.MaxConcurrentStreams, (uint)Limits.MaxConcurrentStreams);
        settings[count++] = (SettingId.NoRfc7540Priorities, 1);
        if (Options.AllowExtendedConnect)
        {
            settings[count++] = (SettingId.EnableConnectProtocol, 1);
        }

        Writer.WriteSettings(settings[..count]);
    }

    private bool OnSettings(FrameHeader header, ReadOnlySpan<byte> payload)
    {
        if (header.StreamId != 0)
        {
            return Fail(Http2ErrorCode.ProtocolError, "settings_on_stream");
        }

        if (header.Has(FrameFlags.Ack))
        {
            if (payload.Length != 0)
            {
                return Fail(Http2ErrorCode.FrameSizeError, "settings_ack_size");
            }

            lock (Gate)
            {
                if (_settingsUnacknowledged > 0)
                {
                    _settingsUnacknowledged--;
                    _decoder.OnSettingsAcknowledged();
                    return true;
                }

                return Guard.Charge(AbuseKind.Settings) || Abuse(AbuseKind.Settings);
            }
        }

        if (payload.Length % 6 != 0)
        {
            return Fail(Http2ErrorCode.FrameSizeError, "settings_size");
        }

        if (payload.Length > Limits.MaxSettingsPerFrame * 6)
        {
            return Abuse(AbuseKind.SettingsList);
        }

        Deferred deferred;
        lock (Gate)
        {
            if (!Guard.Charge(AbuseKind.Settings))
            {
                return Abuse(AbuseKind.Settings);
            }

            for (; !payload.IsEmpty; payload = payload[6..])
            {
                var (id, value) = FramePayload.ReadSetting(payload);
                if (!ApplySetting(id, value))
                {
                    return false;
                }
            }

            if (!_peerMaxStreamsSeen)
            {
                // No MAX_CONCURRENT_STREAMS means no limit (RFC 9113 section 6.5.2); ours stands in.
                PeerMaxStreams = Limits.MaxConcurrentStreams;
            }

            _settingsSeen = true;
            Writer.WriteSettingsAck();
            Writer.Pump();
            deferred = Writer.TakeDeferred();
        }

        Run(deferred);
        _role.OnPeerSettings();
        return true;
    }

    private bool ApplySetting(SettingId id, uint value)
    {
        switch (id)
        {
            case SettingId.HeaderTableSize:
                Writer.OnPeerTableSize(value);
                return true;
            case SettingId.EnablePush:
                return value == 0 || (value == 1 && _role.IsServer) || Fail(Http2ErrorCode.ProtocolError, "invalid_enable_push");
            case SettingId.MaxConcurrentStreams:
                _peerMaxStreamsSeen = true;
                PeerMaxStreams = (int)Math.Min(value, (uint)Limits.MaxConcurrentStreams);
                return true;
            case SettingId.InitialWindowSize:
                if (value > int.MaxValue)
                {
                    return Fail(Http2ErrorCode.FlowControlError, "invalid_initial_window");
                }

                var change = (int)((long)value - _peerInitialWindow);
                _peerInitialWindow = (int)value;
                foreach (var stream in _streams.Values)
                {
                    if (!Writer.AddStreamWindow(stream, change))
                    {
                        return Fail(Http2ErrorCode.FlowControlError, "stream_window_overflow");
                    }
                }

                return true;
            case SettingId.MaxFrameSize:
                if (value is < 16_384 or > 16_777_215)
                {
                    return Fail(Http2ErrorCode.ProtocolError, "invalid_max_frame_size");
                }

                Writer.OnPeerMaxFrameBytes(value);
                return true;
            case SettingId.MaxHeaderListSize:
                Volatile.Write(ref _peerMaxFieldListBytes, value);
                return true;
            case SettingId.NoRfc7540Priorities:
                return value <= 1 || Fail(Http2ErrorCode.ProtocolError, "invalid_no_rfc7540_priorities");
            case SettingId.EnableConnectProtocol:
                if (value > 1)
                {
                    return Fail(Http2ErrorCode.ProtocolError, "invalid_enable_connect_protocol");
                }

                if (value == 0 && PeerAllowsExtendedConnect)
                {
                    // RFC 8441 section 3: what was allowed is not taken back.
                    return Fail(Http2ErrorCode.ProtocolError, "invalid_enable_connect_protocol");
                }

                PeerAllowsExtendedConnect = value == 1;
                return true;
            default:
                return true;
        }
    }
}
