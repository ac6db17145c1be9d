//! nginx's options: `-p -c -g -e -t -T -q -s -v -V -h`.
//! <https://nginx.org/en/docs/switches.html>

use crate::{demo, dump, resty};
use moonrest_server::{Mode, Options, Program};
use std::{
    ffi::OsStr,
    io::{self, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// Where the server lives when nothing is said.
const DEFAULT_PREFIX: &str = match option_env!("MOONREST_PREFIX") {
    Some(prefix) => prefix,
    None => "/usr/local/moonrest/",
};
const DEFAULT_CONF: &str = "conf/nginx.conf";
const DEFAULT_ERROR_LOG: &str = "logs/error.log";

/// The name and version in `-v` and in the log.
pub(crate) const VERSION: &str = concat!("moonrest/", env!("CARGO_PKG_VERSION"));
/// The version of nginx whose behaviour this is.
const NGINX_VERSION: &str = "1.31.3";

/// The options as they were given.
#[derive(Debug, Default, PartialEq, Eq)]
struct Given {
    help: bool,
    version: bool,
    configure: bool,
    test: bool,
    dump: bool,
    quiet: bool,
    prefix: Option<Vec<u8>>,
    error_log: Option<Vec<u8>>,
    conf_file: Option<Vec<u8>>,
    params: Option<Vec<u8>>,
    signal: Option<i32>,
}

/// Reads the words behind the program's name.
///
/// # Errors
/// nginx's text.
fn parse(words: &[Vec<u8>]) -> Result<Given, String> {
    let mut given = Given::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let shown = String::from_utf8_lossy(word);
        let Some(mut letters) = word.strip_prefix(b"-") else {
            return Err(format!("invalid option: \"{shown}\""));
        };
        while let Some((&letter, rest)) = letters.split_first() {
            letters = rest;
            // The value follows in the same word, or is the next one.
            let mut value = |what: &str| -> Result<Vec<u8>, String> {
                let value = if rest.is_empty() { words.next().cloned() } else { Some(rest.to_vec()) };
                value
                    .filter(|value| !value.is_empty())
                    .ok_or_else(|| format!("option \"-{}\" requires {what}", char::from(letter)))
            };
            match letter {
                b'?' | b'h' => (given.version, given.help) = (true, true),
                b'v' => given.version = true,
                b'V' => (given.version, given.configure) = (true, true),
                b't' => given.test = true,
                b'T' => (given.test, given.dump) = (true, true),
                b'q' => given.quiet = true,
                b'p' => given.prefix = Some(value("directory name")?),
                b'e' => given.error_log = Some(value("file name")?),
                b'c' => given.conf_file = Some(value("file name")?),
                b'g' => given.params = Some(value("parameter")?),
                b's' => {
                    let name = value("parameter")?;
                    let name = String::from_utf8_lossy(&name);
                    let signal = moonrest_server::signal_by_name(&name);
                    given.signal = Some(signal.ok_or_else(|| format!("invalid option: \"-s {name}\""))?);
                }
                other => return Err(format!("invalid option: \"{}\"", char::from(other))),
            }
            if matches!(letter, b'p' | b'e' | b'c' | b'g' | b's') {
                break;
            }
        }
    }
    Ok(given)
}

/// Runs the program; gives its exit status.
pub(crate) fn start(argv: Vec<Vec<u8>>) -> u8 {
    if let Some(words) = resty::words(&argv) {
        let words = words.to_vec();
        return resty::start(&words, argv);
    }
    let words = argv.get(1..).unwrap_or_default();
    match words {
        [word] if word == b"--dump-directives" => return print(&dump::directives()),
        [word] if word == b"--dump-variables" => return print(&dump::variables()),
        [word] if word == b"demo" => return serve_demo(argv),
        [] if no_configuration() && demo::checkout().is_some() => return serve_demo(argv),
        _ => {}
    }
    let given = match parse(words) {
        Ok(given) => given,
        Err(text) => {
            error_line(&format!("nginx: {text}"));
            return 1;
        }
    };
    if given.version {
        show_version(&given);
        if !given.test {
            return 0;
        }
    }
    run(options(given), argv)
}

fn run(options: Options, argv: Vec<Vec<u8>>) -> u8 {
    moonrest_core::build::tell(crate::features::configure_arguments(crate::modules::registry()));
    let program = Program { registry: crate::modules::registry(), options, version: VERSION, argv };
    u8::try_from(moonrest_server::run(&program)).unwrap_or(1)
}

fn no_configuration() -> bool {
    !Path::new(DEFAULT_PREFIX).join(DEFAULT_CONF).exists()
}

fn serve_demo(argv: Vec<Vec<u8>>) -> u8 {
    match demo::site() {
        Ok(site) => run(demo::options(&site), argv),
        Err(error) => {
            error_line(&format!("moonrest: the demo site cannot be written ({error})"));
            1
        }
    }
}

fn print(text: &str) -> u8 {
    u8::from(io::stdout().write_all(text.as_bytes()).is_err())
}

fn options(given: Given) -> Options {
    let path = |bytes: Vec<u8>| PathBuf::from(OsStr::from_bytes(&bytes));
    let mut prefix = given.prefix.map_or_else(|| PathBuf::from(DEFAULT_PREFIX), path);
    prefix.push("");
    let conf_file = given.conf_file.map_or_else(|| PathBuf::from(DEFAULT_CONF), path);
    let mode = match (given.test, given.signal) {
        (true, _) => Mode::Test { dump: given.dump },
        (false, Some(signal)) => Mode::Signal(signal),
        (false, None) => Mode::Serve,
    };
    Options {
        conf_file: prefix.join(conf_file),
        prefix,
        params: given.params,
        error_log: given.error_log.map_or_else(|| PathBuf::from(DEFAULT_ERROR_LOG), path),
        quiet: given.quiet,
        mode,
        greeting: None,
    }
}

fn error_line(text: &str) {
    // Nobody to tell when this fails.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The versions, as `-v` shows them.
pub(crate) fn version_lines() -> String {
    format!("nginx version: nginx/{NGINX_VERSION}\nmoonrest version: {VERSION}")
}

fn show_version(given: &Given) {
    error_line(&version_lines());
    if given.help {
        error_line(&help());
    }
    if given.configure {
        error_line("built with rustls on aws-lc, names and errors compatible with OpenSSL 3.5");
        error_line("TLS SNI support enabled");
        let arguments = crate::features::configure_arguments(crate::modules::registry());
        error_line(&format!("configure arguments: {arguments}"));
    }
}

fn help() -> String {
    format!(
        "Usage: nginx [-?hvVtTq] [-s signal] [-p prefix]
             [-e filename] [-c filename] [-g directives]

Options:
  -?,-h         : this help
  -v            : show version and exit
  -V            : show version and configure options then exit
  -t            : test configuration and exit
  -T            : test configuration, dump it and exit
  -q            : suppress non-error messages during configuration testing
  -s signal     : send signal to a master process: stop, quit, reopen, reload
  -p prefix     : set prefix path (default: {DEFAULT_PREFIX})
  -e filename   : set error log file (default: {DEFAULT_ERROR_LOG})
  -c filename   : set configuration file (default: {DEFAULT_CONF})
  -g directives : set global directives out of configuration file

  moonrest demo : serve the demo site on http://127.0.0.1:8080/
  moonrest resty: run Lua scripts (resty -h tells more)
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn values_stand_in_the_same_word_or_the_next() {
        let given = parse(&words("-p/a/ -c x.conf -tq -g daemon_off; -e stderr")).unwrap();
        assert_eq!(given.prefix.as_deref(), Some(&b"/a/"[..]));
        assert_eq!(given.conf_file.as_deref(), Some(&b"x.conf"[..]));
        assert_eq!(given.params.as_deref(), Some(&b"daemon_off;"[..]));
        assert!(given.test && given.quiet && !given.dump);
        assert_eq!(parse(&words("-s reload")).unwrap().signal, Some(1));
        assert!(parse(&words("-T")).unwrap().dump);
    }

    #[test]
    fn errors_are_worded_as_by_nginx() {
        let check = |text: &str, expect: &str| assert_eq!(parse(&words(text)).unwrap_err(), expect);
        check("start", "invalid option: \"start\"");
        check("-x", "invalid option: \"x\"");
        check("-s start", "invalid option: \"-s start\"");
        check("-p", "option \"-p\" requires directory name");
        check("-c", "option \"-c\" requires file name");
        check("-g", "option \"-g\" requires parameter");
    }

    #[test]
    fn the_configuration_file_lies_below_the_prefix() {
        let options = options(parse(&words("-p /srv -c a/b.conf")).unwrap());
        assert_eq!(options.prefix.as_os_str(), "/srv/");
        assert_eq!(options.conf_file, Path::new("/srv/a/b.conf"));
        assert_eq!(options.conf_prefix().as_os_str(), "/srv/a/");
        assert_eq!(options.error_log_path().unwrap(), Path::new("/srv/logs/error.log"));
    }
}
