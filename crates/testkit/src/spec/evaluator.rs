//! The Perl process beside each specification file: it evaluates the header and the `eval` sections in one go.
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::value::Value;

const PROGRAM: &str = include_str!("evaluator.pl");

/// What the evaluator made of a file.
#[derive(Debug)]
pub(super) struct Loaded {
    /// What the header asked for: `repeat_each`, `plan`, `workers` and so on.
    pub settings: Value,
    /// The `TEST_NGINX_*` variables after the header, which may set more.
    pub env: BTreeMap<String, String>,
    /// A map per block: name, line, sections.
    pub blocks: Vec<Value>,
}

/// The process.
#[derive(Debug)]
pub(super) struct Evaluator {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Evaluator {
    /// Starts Perl on a file with these variables in its environment.
    pub(super) fn load<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        path: &Path,
        envs: impl IntoIterator<Item = (K, V)>,
    ) -> io::Result<(Self, Loaded)> {
        let mut command = Command::new("perl");
        command.arg("-e").arg(PROGRAM).arg(path).envs(envs);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let answers =
            BufReader::new(answers.ok_or_else(|| io::Error::other("perl without standard output"))?);
        let mut evaluator = Self { child, commands, answers };
        let mut loaded = evaluator.answer()?;
        if let Some(error) = loaded.get("error") {
            return Err(io::Error::other(error.text().unwrap_or_default().trim_end().to_owned()));
        }
        let Value::Map(entries) = &mut loaded else {
            return Err(io::Error::other("the evaluator gave no map"));
        };
        let settings = entries.remove("setting").unwrap_or(Value::Undefined);
        let env = match entries.remove("env") {
            Some(Value::Map(env)) => {
                env.into_iter().filter_map(|(name, value)| value.text().map(|value| (name, value))).collect()
            }
            _ => BTreeMap::new(),
        };
        let blocks = match entries.remove("blocks") {
            Some(Value::List(blocks)) => blocks,
            _ => Vec::new(),
        };
        Ok((evaluator, Loaded { settings, env, blocks }))
    }

    /// Calls a subroutine that stood in a section.
    pub(super) fn call(&mut self, code: usize, argument: &[u8]) -> io::Result<Value> {
        self.command(&format!("call {code} {}\n", argument.len()), argument)
    }

    /// Evaluates code that a section wants to run at its own time.
    pub(super) fn eval(&mut self, code: &[u8]) -> io::Result<Value> {
        self.command(&format!("eval {}\n", code.len()), code)
    }

    fn command(&mut self, line: &str, bytes: &[u8]) -> io::Result<Value> {
        let commands =
            self.commands.as_mut().ok_or_else(|| io::Error::other("perl without standard input"))?;
        commands.write_all(line.as_bytes())?;
        commands.write_all(bytes)?;
        commands.flush()?;
        let answer = self.answer()?;
        match answer.elements().as_slice() {
            [_, error] if error.is_true() => Err(io::Error::other(error.text().unwrap_or_default())),
            [result, _] => Ok((*result).clone()),
            _ => Err(io::Error::other("the evaluator gave no pair")),
        }
    }

    fn answer(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let len: usize = line.trim().parse().map_err(|_| io::Error::other("perl ended without an answer"))?;
        let mut bytes = vec![0; len];
        self.answers.read_exact(&mut bytes)?;
        Value::decode(&bytes).map_err(io::Error::other)
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        // The end of its input ends the process.
        self.commands = None;
        let _ = self.child.wait();
    }
}
