using System.Collections.Immutable;
using System.Globalization;
using MeshProxy.Model.Config;
using MeshProxy.Model.Identity;
using Microsoft.Data.Sqlite;

namespace MeshProxy.ControlPlane.Store;

/// <summary>An operator's document as it is kept.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Name">Its name.</param>
/// <param name="Text">Source text (JSON, secrets included).</param>
/// <param name="CreatedAt">When a document of this name was first applied; an apply over it keeps this.</param>
/// <param name="Generation">1, and one more with each change.</param>
internal sealed record StoredDocument(string Kind, ResourceName Name, string Text, DateTimeOffset CreatedAt, ulong Generation);

/// <summary>A registered instance as it is kept. Its lease is not: after a restart each instance has a fresh one.</summary>
/// <param name="Name">The workload.</param>
/// <param name="Identity">Who registered it.</param>
/// <param name="LeaseId">The lease under which its sidecar beats.</param>
/// <param name="Registration">The RegisterRequest, as bytes.</param>
/// <param name="Ready">Its last word.</param>
/// <param name="Draining">Its last word.</param>
internal sealed record StoredWorkload(ResourceName Name, SpiffeId Identity, string LeaseId, byte[] Registration, bool Ready, bool Draining);

/// <summary>What the store knows of a join token.</summary>
internal enum TokenState
{
    /// <summary>Good, and from now on used.</summary>
    Redeemed,

    /// <summary>Never made here, or long gone.</summary>
    Unknown,

    /// <summary>Used before.</summary>
    Used,

    /// <summary>Too late.</summary>
    Expired,
}

/// <summary>
/// The SQLite file. One connection, used under one lock; every change is one transaction that also carries the mesh revision, so that the file never
/// holds half a change. WAL with synchronous=FULL: what was answered is on the disk.
/// </summary>
/// <remarks>The file is locked exclusively: a second control plane on the same directory is refused at its start instead of corrupting leases.</remarks>
internal sealed class MeshDatabase : IDisposable
{
    private const int SchemaVersion = 1;

    // A used or expired token is remembered this long, so that whoever comes late is told why.
    private static readonly TimeSpan TokenMemory = TimeSpan.FromDays(7);

    private readonly Lock _gate = new();
    private readonly SqliteConnection _connection;

    private MeshDatabase(SqliteConnection connection) => _connection = connection;

    /// <summary>Opens or makes the file.</summary>
    /// <exception cref="StartException">It cannot be opened.</exception>
    public static MeshDatabase Open(string directory)
    {
        var path = Path.Combine(directory, "mesh.db");
        SqliteConnection? connection = null;
        try
        {
            if (!File.Exists(path))
            {
                // SQLite gives its journal the mode of the file, which holds the keys of listeners.
                StateFile.Write(path, "", StateFile.Private);
            }

            connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = path, Pooling = false, DefaultTimeout = 2 }.ToString());
            connection.Open();
            Execute(connection, null, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;");
            Migrate(connection, path);
            return new MeshDatabase(connection);
        }
        catch (SqliteException e)
        {
            connection?.Dispose();
            throw new StartException(Explain(e, path), e);
        }
        catch
        {
            connection?.Dispose();
            throw;
        }
    }

    /// <summary>What went wrong, for an operator, with what to check.</summary>
    public static string Explain(SqliteException e, string path) => e.SqliteErrorCode switch
    {
        5 or 6 => $"{path} is in use: check that no other meshproxy-control runs on this --data-dir.",
        8 or 14 or 23 => $"{path} cannot be written: check the owner and mode of --data-dir.",
        10 => $"{path} cannot be written ({e.Message}): check the disk under --data-dir.",
        11 or 26 => $"{path} is damaged ({e.Message}): restore it from a backup.",
        13 => $"{path} cannot be written, the disk is full: free space under --data-dir.",
        _ => $"{path}: {e.Message}",
    };

    /// <summary>The mesh revision of the last change.</summary>
    public long ReadRevision()
    {
        lock (_gate)
        {
            using var command = Command(null, "SELECT value FROM meta WHERE key = 'revision'");
            return command.ExecuteScalar() is long revision ? revision : 0;
        }
    }

    /// <summary>Every document.</summary>
    public ImmutableArray<StoredDocument> ReadDocuments()
    {
        lock (_gate)
        {
            var documents = ImmutableArray.CreateBuilder<StoredDocument>();
            using var command = Command(null, "SELECT kind, namespace, name, text, created_at, generation FROM documents");
            using var row = command.ExecuteReader();
            while (row.Read())
            {
                documents.Add(new StoredDocument(row.GetString(0), new ResourceName(row.GetString(1), row.GetString(2)), row.GetString(3), Time(row.GetInt64(4)), (ulong)row.GetInt64(5)));
            }

            return documents.ToImmutable();
        }
    }

    /// <summary>Every registered instance.</summary>
    public ImmutableArray<StoredWorkload> ReadWorkloads()
    {
        lock (_gate)
        {
            var workloads = ImmutableArray.CreateBuilder<StoredWorkload>();
            using var command = Command(null, "SELECT namespace, name, identity, lease_id, registration, ready, draining FROM workloads");
            using var row = command.ExecuteReader();
            while (row.Read())
            {
                workloads.Add(new StoredWorkload(new ResourceName(row.GetString(0), row.GetString(1)), SpiffeId.Parse(row.GetString(2)), row.GetString(3),
                    row.GetFieldValue<byte[]>(4), row.GetBoolean(5), row.GetBoolean(6)));
            }

            return workloads.ToImmutable();
        }
    }

    /// <summary>Writes and removes documents, all or nothing.</summary>
    public void ChangeDocuments(long revision, IEnumerable<StoredDocument> written, IEnumerable<(string Kind, ResourceName Name)> removed) => InTransaction(revision, transaction =>
    {
        foreach (var document in written)
        {
            Execute(_connection, transaction,
                "INSERT INTO documents (kind, namespace, name, text, created_at, generation) VALUES ($1, $2, $3, $4, $5, $6) "
                + "ON CONFLICT (kind, namespace, name) DO UPDATE SET text = excluded.text, generation = excluded.generation",
                document.Kind, document.Name.Namespace, document.Name.Name, document.Text, Milliseconds(document.CreatedAt), (long)document.Generation);
        }

        foreach (var (kind, name) in removed)
        {
            Execute(_connection, transaction, "DELETE FROM documents WHERE kind = $1 AND namespace = $2 AND name = $3", kind, name.Namespace, name.Name);
        }
    });

    /// <summary>Writes and removes instances, all or nothing.</summary>
    public void ChangeWorkloads(long revision, IEnumerable<StoredWorkload> written, IEnumerable<ResourceName> removed) => InTransaction(revision, transaction =>
    {
        foreach (var workload in written)
        {
            Execute(_connection, transaction,
                "INSERT INTO workloads (namespace, name, identity, lease_id, registration, ready, draining) VALUES ($1, $2, $3, $4, $5, $6, $7) "
                + "ON CONFLICT (namespace, name) DO UPDATE SET identity = excluded.identity, lease_id = excluded.lease_id, registration = excluded.registration, "
                + "ready = excluded.ready, draining = excluded.draining",
                workload.Name.Namespace, workload.Name.Name, workload.Identity.ToString(), workload.LeaseId, workload.Registration, workload.Ready, workload.Draining);
        }

        foreach (var name in removed)
        {
            Execute(_connection, transaction, "DELETE FROM workloads WHERE namespace = $1 AND name = $2", name.Namespace, name.Name);
        }
    });

    /// <summary>Keeps a new token's hash.</summary>
    public void AddToken(byte[] hash, SpiffeId id, DateTimeOffset now, DateTimeOffset expiresAt)
    {
        lock (_gate)
        {
            Execute(_connection, null, "DELETE FROM tokens WHERE expires_at < $1", Milliseconds(now - TokenMemory));
            Execute(_connection, null, "INSERT INTO tokens (hash, spiffe_id, created_at, expires_at) VALUES ($1, $2, $3, $4)", hash, id.ToString(), Milliseconds(now), Milliseconds(expiresAt));
        }
    }

    /// <summary>Uses a token up: of any number of callers at once, exactly one gets <see cref="TokenState.Redeemed"/>.</summary>
    public (TokenState State, SpiffeId Id) RedeemToken(byte[] hash, SpiffeId claimed, DateTimeOffset now)
    {
        lock (_gate)
        {
            var redeemed = Execute(_connection, null,
                "UPDATE tokens SET used_at = $1 WHERE hash = $2 AND spiffe_id = $3 AND used_at IS NULL AND expires_at > $1", Milliseconds(now), hash, claimed.ToString());
            if (redeemed == 1)
            {
                return (TokenState.Redeemed, claimed);
            }

            using var command = Command(null, "SELECT spiffe_id, used_at FROM tokens WHERE hash = $1", hash);
            using var row = command.ExecuteReader();
            if (!row.Read() || row.GetString(0) != claimed.ToString())
            {
                return (TokenState.Unknown, default);
            }

            return (row.IsDBNull(1) ? TokenState.Expired : TokenState.Used, claimed);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_gate)
        {
            _connection.Dispose();
        }
    }

    private static void Migrate(SqliteConnection connection, string path)
    {
        using var read = connection.CreateCommand();
        read.CommandText = "PRAGMA user_version";
        var version = Convert.ToInt64(read.ExecuteScalar(), CultureInfo.InvariantCulture);
        if (version > SchemaVersion)
        {
            throw new StartException($"{path} was written by a newer meshproxy-control (schema {version}, this one knows {SchemaVersion}): start that version.");
        }

        using var transaction = connection.BeginTransaction();
        if (version < 1)
        {
            Execute(connection, transaction,
                """
                CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
                CREATE TABLE documents (kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,
                    created_at INTEGER NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (kind, namespace, name));
                CREATE TABLE workloads (namespace TEXT NOT NULL, name TEXT NOT NULL, identity TEXT NOT NULL, lease_id TEXT NOT NULL,
                    registration BLOB NOT NULL, ready INTEGER NOT NULL, draining INTEGER NOT NULL, PRIMARY KEY (namespace, name));
                CREATE TABLE tokens (hash BLOB PRIMARY KEY, spiffe_id TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, used_at INTEGER);
                """);
        }

        Execute(connection, transaction, $"PRAGMA user_version = {SchemaVersion}");
        transaction.Commit();
    }

    private static DateTimeOffset Time(long milliseconds) => DateTimeOffset.FromUnixTimeMilliseconds(milliseconds);

    private static long Milliseconds(DateTimeOffset time) => time.ToUnixTimeMilliseconds();

    private static int Execute(SqliteConnection connection, SqliteTransaction? transaction, string sql, params ReadOnlySpan<object> values)
    {
        using var command = Command(connection, transaction, sql, values);
        return command.ExecuteNonQuery();
    }

    private static SqliteCommand Command(SqliteConnection connection, SqliteTransaction? transaction, string sql, ReadOnlySpan<object> values)
    {
        var command = connection.CreateCommand();
        command.CommandText = sql;
        command.Transaction = transaction;
        for (var i = 0; i < values.Length; i++)
        {
            command.Parameters.AddWithValue($"${i + 1}", values[i]);
        }

        return command;
    }

    private SqliteCommand Command(SqliteTransaction? transaction, string sql, params ReadOnlySpan<object> values) => Command(_connection, transaction, sql, values);

    private void InTransaction(long revision, Action<SqliteTransaction> change)
    {
        lock (_gate)
        {
            using var transaction = _connection.BeginTransaction();
            change(transaction);
            Execute(_connection, transaction, "INSERT INTO meta (key, value) VALUES ('revision', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value", revision);
            transaction.Commit();
        }
    }
}
