//! What goes into statements and comes out of them.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

/// A value of one of SQLite's types.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    Real(f64),
    /// UTF-8 by convention only.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(text.to_vec()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// The parameters of a script: those for `?`, `?1` and `$1`, and those for `:name`, `@name` and `$name`.
#[derive(Clone, Debug, Default)]
pub struct Params {
    pub positional: Vec<Value>,
    pub named: Vec<(Vec<u8>, Value)>,
}

/// What a statement that answers rows has answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub columns: Vec<String>,
    /// Row after row; each has a value for each column.
    pub values: Vec<Value>,
}

/// What a statement has done.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Rows(Rows),
    /// How many rows were changed, and the number of the row inserted last on this connection.
    Changed {
        rows: u64,
        last_id: i64,
    },
}
