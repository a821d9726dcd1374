//! A database with one row for each event.

use std::path::Path;

use pyro_api::{ApiError, ErrorCode, LogEvent, json};
use rusqlite::{Connection, params};

use crate::exit::Failure;

/// Version of the tables.
const FORMAT: &str = "1";

/// Nothing that depends on the machine gets into the file. It is made in one go or not at all, so no journal is needed.
const PREPARE: &str = "
    PRAGMA page_size = 4096;
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA encoding = 'UTF-8';
    BEGIN;
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        version INTEGER NOT NULL,
        workspace TEXT,
        face TEXT NOT NULL,
        uid INTEGER NOT NULL,
        pid INTEGER NOT NULL,
        client TEXT NOT NULL,
        request_id TEXT,
        data TEXT NOT NULL,
        hash TEXT NOT NULL
    );
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
";

const INSERT: &str = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const FINISH: &str = "
    CREATE INDEX events_workspace ON events (workspace, seq);
    CREATE INDEX events_kind ON events (kind, seq);
    CREATE INDEX events_request ON events (request_id, seq);
    INSERT INTO meta
        SELECT 'first_seq', CAST(min(seq) AS TEXT) FROM events
        UNION ALL SELECT 'last_seq', CAST(max(seq) AS TEXT) FROM events
        UNION ALL SELECT 'last_hash', (SELECT hash FROM events ORDER BY seq DESC LIMIT 1);
    COMMIT;
";

/// A database on its way.
#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Begins a new database in place of whatever is there.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let connection = Connection::open(path).map_err(|error| failed(&error))?;
        connection.execute_batch(PREPARE).map_err(|error| failed(&error))?;
        let format = "INSERT INTO meta VALUES ('format', ?)";
        connection.execute(format, [FORMAT]).map_err(|error| failed(&error))?;
        Ok(Self { connection })
    }

    pub(super) fn push(&self, event: &LogEvent) -> Result<(), Failure> {
        let seq = i64::try_from(event.seq).map_err(|error| failed(&error))?;
        let actor = serde_json::json!(event.actor);
        let mut insert = self.connection.prepare_cached(INSERT).map_err(|error| failed(&error))?;
        let data = json::line(&event.data);
        let row = params![
            seq,
            event.at,
            event.kind,
            event.version,
            event.workspace_id,
            actor["face"].as_str(),
            event.actor.uid,
            event.actor.pid,
            event.actor.client,
            event.request_id,
            data.trim_end(),
            event.hash,
        ];
        insert.execute(row).map(drop).map_err(|error| failed(&error))
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        self.connection.execute_batch(FINISH).map_err(|error| failed(&error))?;
        self.connection.close().map_err(|(_, error)| failed(&error))
    }
}

fn failed(error: &impl std::fmt::Display) -> Failure {
    ApiError::new(ErrorCode::OutputFailed, format_args!("failed to write the database: {error}")).into()
}
