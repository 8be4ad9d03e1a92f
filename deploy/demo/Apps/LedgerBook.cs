using Microsoft.Data.Sqlite;

namespace MeshProxy.Demo.Apps;

/// <summary>
/// The ledger's table. It has no unique key and looks nothing up before it writes: a payment that a proxy sends twice stands here twice,
/// which is what makes the demonstration's <c>booked_twice</c> a measurement.
/// </summary>
internal sealed class LedgerBook : IDisposable
{
    private readonly SqliteConnection _connection;
    private readonly SqliteCommand _append;
    private readonly Lock _writing = new();

    private LedgerBook(SqliteConnection connection)
    {
        _connection = connection;
        _append = connection.CreateCommand();
        _append.CommandText =
            "INSERT INTO bookings (payment_id, amount_minor, currency, handled_by) VALUES ($id, $amount, $currency, $by) RETURNING number";
        _append.Parameters.Add("$id", SqliteType.Text);
        _append.Parameters.Add("$amount", SqliteType.Integer);
        _append.Parameters.Add("$currency", SqliteType.Text);
        _append.Parameters.Add("$by", SqliteType.Text);
    }

    public static LedgerBook Open(string file)
    {
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = file, Pooling = false }.ToString());
        connection.Open();
        using var setUp = connection.CreateCommand();
        // NORMAL in WAL mode keeps every commit when a process is killed, which is what happens here; only a power cut could take the last ones.
        setUp.CommandText =
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = NORMAL;
            CREATE TABLE IF NOT EXISTS bookings (
              number INTEGER PRIMARY KEY AUTOINCREMENT,
              payment_id TEXT NOT NULL,
              amount_minor INTEGER NOT NULL,
              currency TEXT NOT NULL,
              handled_by TEXT NOT NULL
            );
            """;
        setUp.ExecuteNonQuery();
        return new LedgerBook(connection);
    }

    /// <summary>Appends one booking in a transaction of its own and returns its number once it is committed.</summary>
    public long Append(string paymentId, long amountMinor, string currency, string handledBy)
    {
        lock (_writing)
        {
            using var transaction = _connection.BeginTransaction();
            _append.Transaction = transaction;
            _append.Parameters["$id"].Value = paymentId;
            _append.Parameters["$amount"].Value = amountMinor;
            _append.Parameters["$currency"].Value = currency;
            _append.Parameters["$by"].Value = handledBy;
            var number = (long)_append.ExecuteScalar()!;
            transaction.Commit();
            return number;
        }
    }

    /// <summary>How often each payment id was booked. Reads beside a running ledger as well as after it.</summary>
    public static Dictionary<string, int> CountBookings(string file)
    {
        using var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = file, Pooling = false }.ToString());
        connection.Open();
        using var select = connection.CreateCommand();
        select.CommandText = "SELECT payment_id, count(*) FROM bookings GROUP BY payment_id";
        using var reader = select.ExecuteReader();
        var bookings = new Dictionary<string, int>(StringComparer.Ordinal);
        while (reader.Read())
        {
            bookings[reader.GetString(0)] = reader.GetInt32(1);
        }

        return bookings;
    }

    public void Dispose()
    {
        _append.Dispose();
        _connection.Dispose();
    }
}
