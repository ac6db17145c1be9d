//! Errors of the database, with the codes of SQLite and the states of the SQL standard.

use rusqlite::ffi::ErrorCode;

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub message: String,
    /// SQLite's extended result code.
    pub code: i32,
    /// Five characters: class and subclass as PostgreSQL and the standard have them.
    pub state: &'static str,
}

/// What `SQLITE_BUSY_SNAPSHOT` is: the transaction reads what is outdated by now, and can never write.
const BUSY_SNAPSHOT: i32 = 517;
const MISUSE: i32 = 21;
const RANGE: i32 = 25;

impl Error {
    /// One of our own: the function is not used as it is meant to be.
    pub fn misuse(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: MISUSE, state: "HY000" }
    }

    /// Too few parameters, or too many.
    pub(crate) fn parameters(message: String) -> Self {
        Self { message, code: RANGE, state: "07001" }
    }

    /// Whether waiting may help.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.code & 0xff, 5 | 6) && self.code != BUSY_SNAPSHOT
    }

    /// Whether the work was interrupted.
    pub fn is_interrupt(&self) -> bool {
        self.code & 0xff == 9
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(failure, message) => Self {
                message: message.unwrap_or_else(|| failure.to_string()),
                code: failure.extended_code,
                state: state(failure.code, failure.extended_code),
            },
            rusqlite::Error::SqlInputError { error, msg, .. } => Self {
                message: msg,
                code: error.extended_code,
                state: state(error.code, error.extended_code),
            },
            other => Self::misuse(other.to_string()),
        }
    }
}

fn state(code: ErrorCode, extended: i32) -> &'static str {
    match code {
        ErrorCode::ConstraintViolation => match extended {
            2067 | 1555 | 2579 => "23505", // unique, primary key, rowid
            787 => "23503",
            1299 => "23502",
            275 => "23514",
            _ => "23000",
        },
        ErrorCode::DatabaseBusy if extended == BUSY_SNAPSHOT => "40001",
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => "55P03",
        ErrorCode::OperationInterrupted | ErrorCode::OperationAborted => "57014",
        ErrorCode::ReadOnly => "25006",
        ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => "42501",
        ErrorCode::OutOfMemory => "53200",
        ErrorCode::DiskFull => "53100",
        ErrorCode::TooBig => "54000",
        ErrorCode::TypeMismatch => "22000",
        ErrorCode::ParameterOutOfRange => "07001",
        ErrorCode::CannotOpen => "08001",
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => "XX001",
        ErrorCode::SystemIoFailure => "58030",
        ErrorCode::SchemaChanged => "0A000",
        ErrorCode::Unknown => "42000", // SQLITE_ERROR: the statement is wrong
        _ => "HY000",
    }
}
