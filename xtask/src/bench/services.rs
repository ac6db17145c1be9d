//! Databases that rows need, with what the rows ask them for.
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use moonrest_testkit::services::{self, Kind, NAME};

use super::cases::Need;
use crate::run;

const ROWS: &str = "create table people (id integer primary key, name varchar(40));
insert into people values (1, 'Ada'), (7, 'Grace'), (9, 'Barbara');";

/// Puts what the rows ask for into a server.
type Fill = fn(u16) -> Result<(), String>;

/// The databases of all rows of a run; each is started once.
#[derive(Debug, Default)]
pub(crate) struct Services {
    running: services::Services,
    /// The word in a configuration, and the port.
    ports: Vec<(&'static str, u16)>,
}

impl Services {
    /// Starts what is needed and not yet there.
    pub(crate) fn require(&mut self, needs: &[Need]) -> Result<(), String> {
        for need in needs {
            let (kind, word, fill): (_, _, Fill) = match need {
                Need::Redis => (Kind::Redis, "redis", |port| talk(port, "set key value\r\n")),
                Need::Memcached => {
                    (Kind::Memcached, "memcached", |port| talk(port, "set key 0 0 5\r\nvalue\r\n"))
                }
                Need::Mysql => (Kind::Mysql, "mysql", mysql),
                Need::Postgres => (Kind::Postgres, "postgres", postgres),
                _ => continue,
            };
            if self.ports.iter().any(|(known, _)| *known == word) {
                continue;
            }
            let variables = self.running.get(kind)?;
            let port = variables.get(&*format!("{}_PORT", kind.name())).and_then(|port| port.parse().ok());
            let port = port.ok_or_else(|| format!("{word} has no port"))?;
            fill(port)?;
            self.ports.push((word, port));
        }
        Ok(())
    }

    /// What stands for `{{word}}` in a configuration.
    pub(crate) fn ports(&self) -> &[(&'static str, u16)] {
        &self.ports
    }
}

/// Sends a line to a server that answers with one.
fn talk(port: u16, text: &str) -> Result<(), String> {
    let talk = || {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.write_all(text.as_bytes())?;
        let mut answer = [0; 64];
        let len = socket.read(&mut answer)?;
        Ok(String::from_utf8_lossy(answer.get(..len).unwrap_or_default()).into_owned())
    };
    let answer = talk().map_err(|error: std::io::Error| error.to_string())?;
    if answer.starts_with("+OK") || answer.starts_with("STORED") { Ok(()) } else { Err(answer) }
}

fn mysql(port: u16) -> Result<(), String> {
    let mut command = Command::new("mysql");
    command.args([
        "-h",
        "127.0.0.1",
        "-P",
        &port.to_string(),
        "-u",
        NAME,
        &format!("-p{NAME}"),
        "-e",
        ROWS,
        NAME,
    ]);
    run::output(&mut command).map(|_| ())
}

fn postgres(port: u16) -> Result<(), String> {
    let mut command = Command::new("psql");
    command.env("PGPASSWORD", NAME).args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
    run::output(command.args(["-U", NAME, "-c", ROWS, NAME])).map(|_| ())
}

/// Whether a program cannot be found.
pub(crate) fn is_missing(program: &str) -> bool {
    services::program(program).is_none()
}
