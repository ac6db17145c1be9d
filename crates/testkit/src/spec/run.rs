//! Runs the blocks of one specification file: a server start each, its requests, its checks.
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::block::Block;
use super::check::{self, LogReader, Place, Tally};
use super::evaluator::Evaluator;
use super::exchange::{self, Manner};
use super::peer::{Peer, shutdown_of};
use super::request::{Packets, requests};
use super::site::Site;
use super::value::Value;
use super::{Binary, Options};
use crate::logs;
use crate::process;
use crate::response::Response;
use crate::services::Services;

/// How long a server may take to start, to write its pid file, to leave.
const START: Duration = Duration::from_secs(20);
const LEAVE: Duration = Duration::from_secs(3);

/// What became of a block.
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub line: usize,
    /// A text per thing that was wrong.
    pub failures: Vec<String>,
    /// Why it was not run.
    pub skipped: Option<String>,
}

/// What became of a file.
#[derive(Debug)]
pub struct FileOutcome {
    pub path: PathBuf,
    pub blocks: Vec<Outcome>,
    /// What is wrong with the file as a whole.
    pub error: Option<String>,
}

/// Runs a file.
pub(super) fn run_file(path: &Path, options: &Options, binary: &Binary, services: &Services) -> FileOutcome {
    let mut outcome = FileOutcome { path: path.to_owned(), blocks: Vec::new(), error: None };
    outcome.error = run_blocks(path, options, binary, services, &mut outcome.blocks).err();
    outcome
}

fn run_blocks(
    path: &Path,
    options: &Options,
    binary: &Binary,
    services: &Services,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), String> {
    let dir =
        tempfile::Builder::new().prefix("moonrest-spec-").tempdir().map_err(|error| error.to_string())?;
    let root = dir.path().join("servroot");
    let mut site = Site::new(root, options.load_modules.clone()).map_err(|error| error.to_string())?;
    site.temp_paths = crate::server::temp_path_kinds(&binary.path);
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    site.env.extend(services.variables(&String::from_utf8_lossy(&text), &site.env)?);
    let (perl, loaded) = Evaluator::load(path, &site.env).map_err(|error| error.to_string())?;
    site.env.extend(loaded.env);
    site.settings = loaded.settings;
    let repeat = site.settings.get("repeat_each").and_then(Value::number).unwrap_or(1);
    let planned: Option<usize> = site.settings.get("plan").and_then(Value::number);
    let skip_all = site.setting("skip_all");
    let mut file = FileRun { site, perl, binary, repeat, running: None, config: None, skips: 0 };
    let mut assertions = 0;
    for block in &loaded.blocks {
        let block = Block::new(block)?;
        if options.only.is_some_and(|line| line != block.line) {
            continue;
        }
        let skipped = skip_all.clone().map_or_else(|| file.skip_reason(&block), |reason| Ok(Some(reason)));
        let mut tally = Tally::default();
        let skipped = skipped.unwrap_or_else(|error| {
            tally.fail(error);
            None
        });
        if skipped.is_none()
            && let Err(error) = file.run_block(&block, &mut tally)
        {
            tally.fail(error);
            file.stop(&mut tally);
        }
        assertions += tally.assertions;
        if !tally.failures.is_empty() {
            keep(options, &file.site, path, &block, &mut tally);
        }
        outcomes.push(Outcome { name: block.name, line: block.line, failures: tally.failures, skipped });
    }
    let complete = options.only.is_none() && outcomes.iter().all(|block| block.failures.is_empty());
    match planned {
        Some(planned) if complete && skip_all.is_none() && planned != assertions + file.skips => {
            Err(format!("the file plans {planned} tests but has {}", assertions + file.skips))
        }
        _ => Ok(()),
    }
}

/// Adds the end of the error log to a failure, and moves the directory away if it is to be kept.
fn keep(options: &Options, site: &Site, path: &Path, block: &Block, tally: &mut Tally) {
    let log = logs::read(&site.error_log());
    let tail: String = logs::tail(&log, 12).iter().map(|line| format!("    {line}\n")).collect();
    tally.failures.push(format!("the end of error.log (without debug lines):\n{tail}"));
    if let Some(keep) = &options.keep {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let to = keep.join(format!("{name}-{}", block.line));
        let copied = Command::new("cp").arg("-a").arg(&site.root).arg(&to).status();
        if copied.is_ok_and(|status| status.success()) {
            tally.failures.push(format!("kept: {}", to.display()));
        }
    }
}

struct FileRun<'a> {
    site: Site,
    perl: Evaluator,
    binary: &'a Binary,
    repeat: usize,
    /// The server of the block that is being run.
    running: Option<i32>,
    /// The last configuration, for blocks without one of their own.
    config: Option<String>,
    /// Tests that skipped blocks would have had.
    skips: usize,
}

impl FileRun<'_> {
    fn skip_reason(&mut self, block: &Block) -> Result<Option<String>, String> {
        let Some((section, text)) =
            ["skip_nginx", "skip_eval", "todo"].into_iter().find_map(|name| Some((name, block.text(name)?)))
        else {
            return Ok(None);
        };
        let (tests, condition) = text.split_once(':').ok_or_else(|| format!("\"{section}\" needs N: …"))?;
        let (skip, reason) = match section {
            "skip_nginx" => self.binary.is_skipped(condition)?,
            "skip_eval" => {
                let value = self.perl.eval(condition.as_bytes()).map_err(|error| error.to_string())?;
                (value.is_true(), "skip_eval".to_owned())
            }
            _ => (true, format!("todo: {}", condition.trim())),
        };
        if skip {
            self.skips += tests.trim().parse::<usize>().unwrap_or(0) * self.repeat;
        }
        Ok(skip.then_some(reason))
    }

    fn run_block(&mut self, block: &Block, tally: &mut Tally) -> Result<(), String> {
        self.lay_out(block)?;
        let (status, stderr) = self.start(block)?;
        if let Some(expected) = block.text("must_die") {
            return self.expect_death(block, &expected, (status, stderr), tally);
        }
        if !status.success() {
            return Err(format!("the server does not start ({status}): {stderr}"));
        }
        let pid = self.pid()?;
        self.running = Some(pid);
        if let Some(code) = block.get("init").and_then(Value::bytes) {
            self.perl.eval(code).map_err(|error| format!("init: {error}"))?;
        }
        let mut log = LogReader::default();
        for repetition in 0..self.repeat {
            self.run_requests(block, repetition, &mut log, tally)?;
        }
        if !process::is_running(pid) {
            tally.fail("the server is gone".into());
        }
        self.stop(tally);
        log.shutdown(tally, block, &self.site)?;
        check::no_grave_lines(tally, block, &self.site);
        Ok(())
    }

    fn lay_out(&mut self, block: &Block) -> Result<(), String> {
        let config = block.text("config").map(|config| self.site.expand(&config)).or(self.config.take());
        let config = config.unwrap_or_default();
        self.site.prepare().map_err(|error| format!("{}: {error}", self.site.root.display()))?;
        if let Some(code) = block.get("post_setup_server_root").and_then(Value::bytes) {
            self.perl.eval(code).map_err(|error| format!("post_setup_server_root: {error}"))?;
        }
        self.site.write_user_files(block)?;
        self.site.write_conf(block, &config)?;
        self.config = Some(config);
        Ok(())
    }

    /// Runs the command that puts the server into the background; gives its status and what it wrote.
    fn start(&self, block: &Block) -> Result<(ExitStatus, String), String> {
        let root = &self.site.root;
        let stderr_path = root.join("stderr.log");
        let failed = |error: std::io::Error| format!("{}: {error}", self.binary.path.display());
        let mut command = Command::new(&self.binary.path);
        command.arg("-e").arg(self.site.error_log()).arg("-p").arg(format!("{}/", root.display()));
        command.arg("-c").arg(root.join("conf/nginx.conf")).envs(&self.site.env);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr_path).map_err(failed)?);
        let mut child = command.spawn().map_err(failed)?;
        let status = process::poll(START, || child.try_wait().transpose());
        let Some(status) = status else {
            let _ = child.kill();
            let _ = child.wait();
            return Err("the server neither starts nor fails".into());
        };
        let stderr = if block.has("suppress_stderr") { String::new() } else { logs::read(&stderr_path) };
        Ok((status.map_err(failed)?, stderr))
    }

    fn expect_death(
        &mut self,
        block: &Block,
        expected: &str,
        (status, stderr): (ExitStatus, String),
        tally: &mut Tally,
    ) -> Result<(), String> {
        match expected.trim().parse::<i32>() {
            Ok(code) => {
                tally.check(status.code() == Some(code), || format!("{status}, expected {code}: {stderr}"))
            }
            Err(_) => tally.check(!status.success(), || "the server was to die, but starts".into()),
        }
        let place = Place { request: 0, several: false, repetition: 0 };
        LogReader::default().error_log(tally, block, &self.site, place)?;
        if status.success() {
            self.running = self.pid().ok();
            self.stop(tally);
        }
        Ok(())
    }

    fn pid(&self) -> Result<i32, String> {
        // The command returns once the daemon is forked; the daemon writes the file a moment later.
        let pid = process::poll(START, || process::read_pid_file(&self.site.pid_file()));
        pid.ok_or_else(|| "the server writes no pid file".into())
    }

    fn run_requests(
        &mut self,
        block: &Block,
        repetition: usize,
        log: &mut LogReader,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let peers = self.peers(block)?;
        let list = {
            let site = &self.site;
            requests(block, &site.server_name(), &|bytes| site.expand_bytes(bytes))?
        };
        let pipelined = block.get("pipelined_requests").map_or(1, |requests| requests.elements().len());
        let several = list.len() > 1 || block.has("pipelined_requests");
        let ignored = block.has("ignore_response");
        let mut place = Place { request: 0, several, repetition };
        let last = list.len() * pipelined - 1;
        for packets in &list {
            let mut left = self.send(block, packets, tally)?;
            for _ in 0..pipelined {
                if !ignored {
                    left = self.check_response(block, packets, &left, place, tally)?;
                }
                if place.request < last {
                    self.check_logs(block, log, place, tally)?;
                }
                place.request += 1;
            }
        }
        place.request = last;
        self.check_logs(block, log, place, tally)?;
        for (section, peer) in &peers {
            if let Some(expected) = block.get(section) {
                let query = peer.query(expected.bytes().map_or(0, <[u8]>::len));
                let holds = match expected {
                    Value::Regex(_) => super::pattern::Pattern::of(expected)?.matches(&query),
                    other => other.bytes() == Some(query.as_slice()),
                };
                tally.check(holds, || {
                    format!("{section}: the peer was sent {:?}", String::from_utf8_lossy(&query))
                });
            }
        }
        Ok(())
    }

    fn peers(&self, block: &Block) -> Result<Vec<(&'static str, Peer)>, String> {
        let mut peers = Vec::new();
        if let Some(target) = block.text("tcp_listen") {
            peers.push(("tcp_query", Peer::tcp(block, self.site.expand(&target).trim())?));
        }
        if let Some(target) = block.text("udp_listen") {
            peers.push(("udp_query", Peer::udp(block, self.site.expand(&target).trim())?));
        }
        Ok(peers)
    }

    fn send(&self, block: &Block, packets: &Packets, tally: &mut Tally) -> Result<Vec<u8>, String> {
        let default = self.site.setting("timeout").and_then(|text| super::block::parse_time(&text));
        let timeout = block.time("timeout")?.or(default).unwrap_or(Duration::from_secs(4));
        let shutdown = block.text("shutdown").as_deref().map(shutdown_of).transpose()?;
        let host = block.text("server_addr_for_client").unwrap_or_else(|| "127.0.0.1".into());
        let host = host.trim().parse().map_err(|error| format!("server_addr_for_client: {error}"))?;
        let addr = SocketAddr::new(host, self.site.port.number());
        if block.has("http2") || block.has("curl") {
            let options = block.text("curl_options").map(|options| self.site.expand(&options));
            return exchange::by_curl(block, addr, packets, options.as_deref(), timeout);
        }
        let exchange = exchange::exchange(addr, packets, Manner { timeout, shutdown });
        let exchange = exchange.map_err(|error| format!("cannot connect to {addr}: {error}"))?;
        if exchange.timed_out && !block.has("abort") {
            let received = String::from_utf8_lossy(&exchange.received).into_owned();
            tally.fail(format!("the server does not close in {timeout:?}; received so far:\n{received}"));
        }
        Ok(exchange.received)
    }

    /// Checks the first response in `received` and returns what stands behind it.
    fn check_response(
        &mut self,
        block: &Block,
        packets: &Packets,
        received: &[u8],
        place: Place,
        tally: &mut Tally,
    ) -> Result<Vec<u8>, String> {
        let head =
            packets.first().is_some_and(|packet| packet.bytes.trim_ascii_start().starts_with(b"HEAD "));
        let mut response = if block.has("http09") {
            Response { status: Some(200), body: received.to_vec(), ..Response::default() }
        } else {
            exchange::parse(received, head)?
        };
        let before = tally.failures.len();
        check::response(tally, block, &self.site, &mut self.perl, &mut response, place)?;
        if place.several {
            for failure in &mut tally.failures[before..] {
                failure.insert_str(0, &format!("request {}: ", place.request));
            }
        }
        Ok(response.rest)
    }

    fn check_logs(
        &mut self,
        block: &Block,
        log: &mut LogReader,
        place: Place,
        tally: &mut Tally,
    ) -> Result<(), String> {
        std::thread::sleep(block.time("wait")?.unwrap_or_default());
        log.error_log(tally, block, &self.site, place)?;
        if !block.has("ignore_response") {
            check::access_log(tally, block, &self.site)?;
        }
        Ok(())
    }

    /// Stops the server gracefully, as an administrator would.
    fn stop(&mut self, tally: &mut Tally) {
        let Some(pid) = self.running.take() else { return };
        if !process::is_running(pid) {
            return;
        }
        process::signal(pid, Signal::QUIT);
        if !process::wait_until_gone(pid, LEAVE) && !process::stop(pid, Signal::TERM) {
            tally.fail("the server had to be killed".into());
        }
    }
}

impl Drop for FileRun<'_> {
    fn drop(&mut self) {
        if let Some(pid) = self.running.take() {
            process::stop(pid, Signal::TERM);
        }
    }
}
