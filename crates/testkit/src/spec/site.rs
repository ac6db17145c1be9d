//! The directory a block's server runs in: configuration, files, places for logs.
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::block::Block;
use super::value::Value;
use crate::port::Port;

/// What a specification file's blocks have in common.
#[derive(Debug)]
pub(super) struct Site {
    /// The directory; emptied for each block.
    pub root: PathBuf,
    /// The port the server listens on.
    pub port: Port,
    /// `TEST_NGINX_*`.
    pub env: BTreeMap<String, String>,
    /// What the file's header asked for.
    pub settings: Value,
    /// Modules to load, for servers that have them as files.
    pub load_modules: Vec<String>,
    /// Directories for temporary files that the server has a directive for.
    pub temp_paths: Vec<&'static str>,
    random_ports: Mutex<BTreeMap<String, Port>>,
}

impl Site {
    /// A site below `root` with a port of its own.
    pub(super) fn new(root: PathBuf, load_modules: Vec<String>) -> io::Result<Self> {
        let port = Port::reserve()?;
        let mut env: BTreeMap<String, String> =
            std::env::vars().filter(|(name, _)| name.starts_with("TEST_NGINX_")).collect();
        env.insert("TEST_NGINX_SERVER_PORT".into(), port.number().to_string());
        env.insert("TEST_NGINX_PORT".into(), port.number().to_string());
        env.insert("TEST_NGINX_SERVROOT".into(), root.to_string_lossy().into_owned());
        env.insert("TEST_NGINX_HTML_DIR".into(), root.join("html").to_string_lossy().into_owned());
        Ok(Self {
            root,
            port,
            env,
            settings: Value::Undefined,
            load_modules,
            temp_paths: Vec::new(),
            random_ports: Mutex::default(),
        })
    }

    /// The error log.
    pub(super) fn error_log(&self) -> PathBuf {
        self.root.join("logs/error.log")
    }

    /// The access log.
    pub(super) fn access_log(&self) -> PathBuf {
        self.root.join("logs/access.log")
    }

    /// The pid file.
    pub(super) fn pid_file(&self) -> PathBuf {
        self.root.join("logs/nginx.pid")
    }

    /// A word the header set.
    pub(super) fn setting(&self, name: &str) -> Option<String> {
        self.settings.get(name).and_then(Value::text)
    }

    /// The value of the `Host` field and of `server_name`.
    pub(super) fn server_name(&self) -> String {
        self.setting("server_name").unwrap_or_else(|| "localhost".into())
    }

    /// Replaces `$TEST_NGINX_*`.
    pub(super) fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("$TEST_NGINX_") {
            out.push_str(&rest[..at]);
            let name = &rest[at + 1..];
            let end = name.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
            let (name, after) = name.split_at(end.unwrap_or(name.len()));
            match self.variable(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&rest[at..at + 1 + name.len()]),
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// Replaces `$TEST_NGINX_*`; bytes that are no text stay as they are.
    pub(super) fn expand_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.expand(text).into_bytes(),
            Err(_) => bytes.to_vec(),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        if name.starts_with("TEST_NGINX_RAND_PORT_") {
            let mut ports = self.random_ports.lock().ok()?;
            if !ports.contains_key(name) {
                ports.insert(name.to_owned(), Port::reserve().ok()?);
            }
            return ports.get(name).map(|port| port.number().to_string());
        }
        self.env.get(name).cloned()
    }

    /// Empties the directory and lays out what every block starts with.
    pub(super) fn prepare(&self) -> io::Result<()> {
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        for dir in ["conf", "html", "logs"] {
            fs::create_dir_all(self.root.join(dir))?;
        }
        if let Ok(mut ports) = self.random_ports.lock() {
            ports.clear();
        }
        let page = "<html><head><title>It works!</title></head><body>It works!</body></html>";
        fs::write(self.root.join("html/index.html"), page)
    }

    /// Writes the block's `user_files`.
    pub(super) fn write_user_files(&self, block: &Block) -> Result<(), String> {
        for file in user_files(block)? {
            let path = match file.name.strip_prefix('/') {
                Some(_) => PathBuf::from(&file.name),
                None => self.root.join("html").join(&file.name),
            };
            let body = self.expand_bytes(&file.body);
            let written =
                path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, body));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
            if let Some(date) = &file.date {
                touch(&path, date)?;
            }
        }
        Ok(())
    }

    /// Writes the configuration around the block's parts.
    pub(super) fn write_conf(&self, block: &Block, config: &str) -> Result<(), String> {
        let path = self.root.join("conf/nginx.conf");
        fs::write(&path, self.conf(block, config)).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn conf(&self, block: &Block, config: &str) -> String {
        let part = |name: &str| self.expand(&block.text(name).unwrap_or_default());
        let setting = |name: &str, default: &str| self.setting(name).unwrap_or_else(|| default.to_owned());
        let root = self.root.to_string_lossy();
        let log_level = block
            .text("log_level")
            .map_or_else(|| setting("log_level", "debug"), |level| level.trim().into());
        let error_log = block.text("error_log_file").map(|path| self.expand(path.trim()));
        let error_log = error_log.unwrap_or_else(|| format!("{root}/logs/error.log"));
        let server_name = block.text("server_name").unwrap_or_else(|| self.server_name());
        let server_name = server_name.replace('\\', "\\\\").replace('\'', "\\'");
        let http_config = part("http_config");
        let mut conf = format!(
            "worker_processes {workers};\ndaemon on;\nmaster_process {master};\nerror_log {error_log} {log_level};\n\
             pid {root}/logs/nginx.pid;\n",
            workers = setting("workers", "1"),
            master = if self.setting("master_on").is_some() { "on" } else { "off" },
        );
        if let Some(Value::List(names)) = self.settings.get("env") {
            conf.extend(names.iter().filter_map(Value::text).map(|name| format!("env {name};\n")));
        }
        conf.extend(self.load_modules.iter().map(|module| format!("load_module {module};\n")));
        conf.push_str(&part("main_config"));
        conf.push_str("\nhttp {\n    default_type text/plain;\n    keepalive_timeout 68000ms;\n");
        conf.push_str(&format!("    access_log {root}/logs/access.log;\n"));
        for kind in &self.temp_paths {
            if !http_config.contains(&format!("{kind}_temp_path")) {
                conf.push_str(&format!("    {kind}_temp_path {root}/{kind}_temp;\n"));
            }
        }
        let http2 = if block.has("http2") { "        http2 on;\n" } else { "" };
        let port = self.port.number();
        conf.push_str(&format!(
            "\n{http_config}\n    server {{\n        listen {port};\n{http2}        server_name '{server_name}';\n        \
             client_max_body_size 30M;\n{preamble}\n{config}\n",
            preamble = setting("config_preamble", ""),
        ));
        if self.setting("no_root_location").is_none() {
            conf.push_str(&format!(
                "        location / {{\n            root {root}/html;\n            index index.html index.htm;\n        }}\n"
            ));
        }
        conf.push_str("    }\n}\n\n");
        conf.push_str(&part("post_main_config"));
        conf.push_str(&format!(
            "\nevents {{\n    accept_mutex off;\n    worker_connections {};\n}}\n",
            setting("worker_connections", "64")
        ));
        if rustix::process::geteuid().is_root() {
            conf.push_str("user root;\n");
        }
        conf
    }
}

/// A file of a block.
#[derive(Debug, PartialEq, Eq)]
struct UserFile {
    name: String,
    body: Vec<u8>,
    date: Option<String>,
}

fn user_files(block: &Block) -> Result<Vec<UserFile>, String> {
    match block.get("user_files") {
        None => Ok(Vec::new()),
        Some(Value::List(files)) => files.iter().map(listed_file).collect(),
        Some(value) => Ok(split_files(value.bytes().ok_or("\"user_files\" must be text or a list")?)),
    }
}

fn listed_file(value: &Value) -> Result<UserFile, String> {
    let parts = value.elements();
    let name = parts.first().and_then(|name| name.text()).ok_or("a user file without a name")?;
    let body = parts.get(1).and_then(|body| body.bytes()).unwrap_or_default().to_vec();
    Ok(UserFile { name, body, date: parts.get(2).and_then(|date| date.text()) })
}

/// `>>> NAME [DATE]` begins a file.
fn split_files(text: &[u8]) -> Vec<UserFile> {
    let mut files: Vec<UserFile> = Vec::new();
    for line in text.split_inclusive(|&b| b == b'\n') {
        let head = line.strip_prefix(b">>> ".as_slice()).map(String::from_utf8_lossy);
        match (head, files.last_mut()) {
            (Some(head), _) => {
                let (name, date) = head.trim().split_once(char::is_whitespace).unwrap_or((head.trim(), ""));
                let date = Some(date.trim().to_owned()).filter(|date| !date.is_empty());
                files.push(UserFile { name: name.to_owned(), body: Vec::new(), date });
            }
            (None, Some(file)) => file.body.extend_from_slice(line),
            (None, None) => {}
        }
    }
    files
}

/// Sets a file's time; the notation is that of `touch -t`, in UTC.
fn touch(path: &Path, date: &str) -> Result<(), String> {
    let status = Command::new("touch").env("TZ", "UTC").args(["-t", date]).arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("cannot set the time {date:?} of {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_split_at_their_heads() {
        let files = split_files(b"ignored\n>>> a.txt 201001010000\none\ntwo\n>>> d/b\n");
        let date = Some("201001010000".to_owned());
        assert_eq!(files[0], UserFile { name: "a.txt".into(), body: b"one\ntwo\n".to_vec(), date });
        assert_eq!(files[1], UserFile { name: "d/b".into(), body: Vec::new(), date: None });
    }

    #[test]
    fn variables_are_expanded_and_unknown_ones_left() {
        let mut site = Site::new("/nowhere".into(), Vec::new()).unwrap();
        site.env.insert("TEST_NGINX_A1".into(), "x".into());
        assert_eq!(site.expand("$TEST_NGINX_A1.$TEST_NGINX_NONE $host"), "x.$TEST_NGINX_NONE $host");
        let port = site.expand("$TEST_NGINX_RAND_PORT_1");
        assert_eq!(site.expand("$TEST_NGINX_RAND_PORT_1"), port);
        assert_ne!(site.expand("$TEST_NGINX_RAND_PORT_2"), port);
    }
}
