//! A connection to a database, and the jobs that go through it.

use crate::{
    error::Error,
    script::{is_blank, split_first},
    threads,
    value::{Outcome, Params, Rows, Value},
};
use rusqlite::{CachedStatement, InterruptHandle, OpenFlags};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// Statements kept compiled per connection.
const STATEMENTS: usize = 64;

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// A file, or a URI that begins with `file:`.
    pub path: PathBuf,
    pub read_only: bool,
    /// Whether a file that is not there is made.
    pub create: bool,
    /// Run once, when it is open.
    pub setup: String,
}

/// A connection. It closes when it is dropped, on another thread.
pub struct Connection {
    db: RefCell<Option<rusqlite::Connection>>,
    interrupt: InterruptHandle,
    /// Set, it ends the job under way at its next steps. An interrupt alone is lost if it comes just before a statement.
    stop: Arc<AtomicBool>,
    /// Nobody is in the middle of a transaction, as far as the last job tells.
    autocommit: Cell<bool>,
    closed: Cell<bool>,
}

/// What a job gives back: the connection, the work, what became of it, and whether no transaction is open.
type Returned = (rusqlite::Connection, (Work, Result<(), Error>, bool));

impl Connection {
    /// Opens a database.
    pub fn open(options: Options) -> Opening {
        let (give, answer) = oneshot::channel();
        threads::run(Box::new(move || {
            let _ = give.send(open(&options));
        }));
        Opening(answer)
    }

    /// Begins to run what is left of a script.
    ///
    /// # Errors
    /// When another job has the connection, or one has lost it.
    pub fn run(self: &Rc<Self>, mut work: Work) -> Result<Attempt, Error> {
        let Some(db) = self.db.borrow_mut().take() else {
            return Err(Error::misuse(if self.is_closed() { "closed" } else { "connection busy" }));
        };
        self.stop.store(false, Ordering::Release);
        let (give, answer) = oneshot::channel();
        let stop = self.stop.clone();
        threads::run(Box::new(move || {
            let result = work.run(&db, &stop);
            let autocommit = db.is_autocommit();
            // Where nobody waits for it any more, the connection is closed here.
            let _ = give.send((db, (work, result, autocommit)));
        }));
        Ok(Attempt { connection: self.clone(), answer, over: false })
    }

    /// Whether no transaction is open.
    pub fn is_autocommit(&self) -> bool {
        self.autocommit.get()
    }

    /// Whether a job can be run now.
    pub fn is_idle(&self) -> bool {
        self.db.borrow().is_some()
    }

    /// Whether it is of no use any more.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Closes it. A job under way is interrupted, and closes it when it ends.
    pub fn close(&self) {
        self.closed.set(true);
        match self.db.take() {
            Some(db) => threads::run(Box::new(move || drop(db))),
            None => self.interrupt(),
        }
    }

    fn interrupt(&self) {
        self.stop.store(true, Ordering::Release);
        self.interrupt.interrupt();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_idle() {
            self.close();
        }
    }
}

fn interrupted() -> Error {
    Error { message: "interrupted".to_owned(), code: 9, state: "57014" }
}

/// How many steps of SQLite's machine there may be until it sees that it is to stop.
const STEPS: i32 = 1000;

fn open(options: &Options) -> Result<(rusqlite::Connection, Arc<AtomicBool>), Error> {
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    if options.read_only {
        flags |= OpenFlags::SQLITE_OPEN_READ_ONLY;
    } else {
        flags |= OpenFlags::SQLITE_OPEN_READ_WRITE;
        if options.create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
    }
    let mut db = rusqlite::Connection::open_with_flags(&options.path, flags)?;
    // Only this once: later a lock that others hold is waited for without a thread.
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.execute_batch(&options.setup)?;
    db.busy_timeout(std::time::Duration::ZERO)?;
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    db.progress_handler(STEPS, Some(move || seen.load(Ordering::Acquire)))?;
    Ok((db, stop))
}

/// A connection that is being opened.
pub struct Opening(oneshot::Receiver<Result<(rusqlite::Connection, Arc<AtomicBool>), Error>>);

impl Future for Opening {
    type Output = Result<Connection, Error>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(cx));
        let db = answer.unwrap_or_else(|_| Err(Error::misuse("the thread has ended")));
        Poll::Ready(db.map(|(db, stop)| Connection {
            stop,
            interrupt: db.get_interrupt_handle(),
            db: RefCell::new(Some(db)),
            autocommit: Cell::new(true),
            closed: Cell::new(false),
        }))
    }
}

/// A script, its parameters, and how far it is done.
pub struct Work {
    script: String,
    done: usize,
    params: Params,
    used: usize,
    outcomes: Vec<Outcome>,
}

/// What a job comes back with.
pub enum Answer {
    /// What each statement has done; and why the one after them failed.
    Done(Vec<Outcome>, Option<Error>),
    /// Others hold a lock. What is left is to be tried again, for as long as one likes to wait; then this is the error.
    Busy(Work, Error),
}

impl Work {
    /// The text of one statement or several.
    pub fn new(script: String, params: Params) -> Self {
        Self { script, done: 0, params, used: 0, outcomes: Vec::new() }
    }

    /// What was done before others held a lock.
    pub fn into_outcomes(self) -> Vec<Outcome> {
        self.outcomes
    }

    fn run(&mut self, db: &rusqlite::Connection, stop: &AtomicBool) -> Result<(), Error> {
        loop {
            let rest = self.script.get(self.done..).unwrap_or_default();
            if is_blank(rest) {
                break;
            }
            if stop.load(Ordering::Acquire) {
                return Err(interrupted());
            }
            let (text, after) = split_first(rest);
            let len = text.len();
            let mut statement = db.prepare_cached(text.trim())?;
            let used = self.bind(&mut statement)?;
            let given = self.params.positional.len();
            if used < given && is_blank(after) {
                return Err(Error::parameters(format!("{given} parameters given, but {used} wanted")));
            }
            let outcome = step(db, &mut statement)?;
            self.outcomes.push(outcome);
            self.done += len;
            self.used = used;
        }
        if self.outcomes.is_empty() {
            return Err(Error { message: "the query was empty".to_owned(), code: 1, state: "42000" });
        }
        Ok(())
    }

    /// Binds the parameters of a statement, and says how many of the positional ones are used up then.
    fn bind(&self, statement: &mut CachedStatement<'_>) -> Result<usize, Error> {
        let (mut used, mut highest) = (self.used, self.used);
        for n in 1..=statement.parameter_count() {
            let name = statement.parameter_name(n).map(str::to_owned);
            let digits = name.as_deref().and_then(|name| name.strip_prefix(['?', '$']));
            let value = match (digits.and_then(|digits| digits.parse::<usize>().ok()), &name) {
                (Some(place), _) => {
                    highest = highest.max(place);
                    place.checked_sub(1).and_then(|at| self.params.positional.get(at))
                }
                (None, Some(name)) => self.named(name),
                (None, None) => {
                    used += 1;
                    self.params.positional.get(used - 1)
                }
            };
            let Some(value) = value else {
                let given = self.params.positional.len();
                return Err(Error::parameters(match name {
                    Some(name) => format!("no value for parameter {name}"),
                    None => format!("no value for parameter {used}: {given} given"),
                }));
            };
            statement.raw_bind_parameter(n, value)?;
        }
        Ok(used.max(highest))
    }

    /// The value for `:name`; its name may be given with or without the sign before it.
    fn named(&self, name: &str) -> Option<&Value> {
        let bare = name.get(1..).unwrap_or_default().as_bytes();
        let found = self.params.named.iter().find(|(key, _)| key == name.as_bytes() || key == bare);
        found.map(|(_, value)| value)
    }
}

/// Runs a statement to its end.
fn step(db: &rusqlite::Connection, statement: &mut CachedStatement<'_>) -> Result<Outcome, Error> {
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let (width, before) = (columns.len(), db.total_changes());
    let mut values = Vec::new();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        for column in 0..width {
            values.push(Value::from(row.get_ref(column)?));
        }
    }
    if width > 0 {
        return Ok(Outcome::Rows(Rows { columns, values }));
    }
    let changed = if db.total_changes() == before { 0 } else { db.changes() };
    Ok(Outcome::Changed { rows: changed, last_id: db.last_insert_rowid() })
}

/// A job under way. Dropped before its end, it is interrupted, and the connection is lost.
pub struct Attempt {
    connection: Rc<Connection>,
    answer: oneshot::Receiver<Returned>,
    over: bool,
}

impl Attempt {
    /// Has it end soon.
    pub fn interrupt(&self) {
        self.connection.interrupt();
    }
}

impl Future for Attempt {
    type Output = Answer;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        self.over = true;
        let Ok((db, (mut work, result, autocommit))) = answer else {
            self.connection.closed.set(true);
            let error = Error::misuse("the thread has ended");
            return Poll::Ready(Answer::Done(Vec::new(), Some(error)));
        };
        self.connection.autocommit.set(autocommit);
        *self.connection.db.borrow_mut() = Some(db);
        if self.connection.is_closed() {
            self.connection.close();
        }
        Poll::Ready(match result {
            Ok(()) => Answer::Done(std::mem::take(&mut work.outcomes), None),
            Err(error) if error.is_busy() => Answer::Busy(work, error),
            Err(error) => Answer::Done(std::mem::take(&mut work.outcomes), Some(error)),
        })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.over {
            self.interrupt();
            self.connection.closed.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        moonrest_rt::block_on(future)
    }

    fn open(path: &str) -> Rc<Connection> {
        let options = Options { path: path.into(), read_only: false, create: true, setup: String::new() };
        Rc::new(block_on(Connection::open(options)).unwrap())
    }

    fn run(db: &Rc<Connection>, script: &str, positional: Vec<Value>) -> Result<Vec<Outcome>, Error> {
        let params = Params { positional, named: Vec::new() };
        match block_on(db.run(Work::new(script.to_owned(), params)).unwrap()) {
            Answer::Done(outcomes, None) => Ok(outcomes),
            Answer::Done(_, Some(error)) | Answer::Busy(_, error) => Err(error),
        }
    }

    #[test]
    fn statements_run_one_after_another_and_share_the_parameters() {
        let db = open(":memory:");
        let made = run(
            &db,
            "create table t(a integer primary key, b); insert into t(b) values (?), (?); select b from t where a = ?",
            vec![Value::Text(b"x".to_vec()), Value::Blob(vec![0, 1]), Value::Integer(2)],
        );
        let rows = Rows { columns: vec!["b".to_owned()], values: vec![Value::Blob(vec![0, 1])] };
        assert_eq!(
            made.unwrap(),
            [
                Outcome::Changed { rows: 0, last_id: 0 },
                Outcome::Changed { rows: 2, last_id: 2 },
                Outcome::Rows(rows)
            ]
        );
        let error = run(&db, "select ?", vec![]).unwrap_err();
        assert_eq!((error.code, error.state), (RANGE_CODE, "07001"));
        let error = run(&db, "select 1", vec![Value::Null]).unwrap_err();
        assert_eq!(error.message, "1 parameters given, but 0 wanted");
        assert!(run(&db, "select $2, $1, ?1", vec![Value::Null, Value::Null]).is_ok());
        assert_eq!(run(&db, " ; ", vec![]).unwrap_err().message, "the query was empty");
    }
    const RANGE_CODE: i32 = 25;

    #[test]
    fn errors_have_the_states_of_the_standard() {
        let db = open(":memory:");
        run(&db, "create table t(a unique not null check (a > 0)); insert into t values (1)", vec![])
            .unwrap();
        for (script, state) in [
            ("insert into t values (1)", "23505"),
            ("insert into t values (null)", "23502"),
            ("insert into t values (0)", "23514"),
            ("selec", "42000"),
            ("select * from nowhere", "42000"),
        ] {
            assert_eq!(run(&db, script, vec![]).unwrap_err().state, state, "{script}");
        }
        assert!(db.is_autocommit());
        run(&db, "begin", vec![]).unwrap();
        assert!(!db.is_autocommit());
    }

    #[test]
    fn a_lock_of_others_comes_back_as_busy_with_what_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db").display().to_string();
        let (one, two) = (open(&path), open(&path));
        run(&one, "create table t(a); begin immediate; insert into t values (1)", vec![]).unwrap();
        let work = Work::new("select 1; insert into t values (2)".to_owned(), Params::default());
        let Answer::Busy(work, error) = block_on(two.run(work).unwrap()) else { panic!("not busy") };
        assert_eq!(error.state, "55P03");
        run(&one, "commit", vec![]).unwrap();
        let Answer::Done(outcomes, None) = block_on(two.run(work).unwrap()) else { panic!("not done") };
        assert_eq!(outcomes.len(), 2);
    }

    #[test]
    fn an_endless_statement_is_interrupted_and_the_connection_stays() {
        let db = open(":memory:");
        let endless =
            "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c";
        for _ in 0..50 {
            let attempt = db.run(Work::new(endless.to_owned(), Params::default())).unwrap();
            assert!(db.run(Work::new("select 1".to_owned(), Params::default())).is_err());
            attempt.interrupt();
            let Answer::Done(_, Some(error)) = block_on(attempt) else { panic!("not interrupted") };
            assert!(error.is_interrupt());
        }
        assert!(run(&db, "select 1", vec![]).is_ok());
    }

    #[test]
    fn a_job_that_nobody_waits_for_loses_the_connection() {
        let db = open(":memory:");
        let endless =
            "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c";
        drop(db.run(Work::new(endless.to_owned(), Params::default())).unwrap());
        assert!(!db.is_idle());
        assert!(db.run(Work::new("select 1".to_owned(), Params::default())).is_err());
    }
}
