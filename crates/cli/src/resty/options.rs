//! The options of `resty`.

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Help,
    Version,
    Run(Box<Script>),
}

/// A script, and what it wants of the server it runs in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    /// `-e`, and `-l` as what it stands for, in order.
    pub inline: Vec<Vec<u8>>,
    /// The file to run behind that; `-` is standard input.
    pub file: Option<Vec<u8>>,
    /// The words in front of the script: `arg[-1]` and below.
    pub before: Vec<Vec<u8>>,
    /// The script and what follows it: `arg[0]` and above.
    pub args: Vec<Vec<u8>>,
    /// `-I`
    pub include: Vec<Vec<u8>>,
    /// `-c`
    pub connections: Option<u64>,
    /// `--errlog-level`
    pub level: Option<String>,
    pub shdicts: Vec<Vec<u8>>,
    pub http_conf: Vec<Vec<u8>>,
    pub http_include: Vec<Vec<u8>>,
    pub main_conf: Vec<Vec<u8>>,
    pub main_include: Vec<Vec<u8>>,
    pub stream_conf: Vec<Vec<u8>>,
    pub no_stream: bool,
    /// `--ns`
    pub nameservers: Vec<String>,
    pub resolve_ipv6: bool,
    /// `-j`
    pub jit: Option<String>,
    /// `--dump-nginx-conf`
    pub dump: bool,
}

pub(super) const HELP: &str = "resty [options] [lua-file [args]]

Options:
    -c NUM               connections that may be open at once (default: 64)
    -e PROG              run PROG (may be given several times)
    -I DIR               look for Lua libraries in DIR first
    -l LIB               require LIB first
    -j MODE              the just-in-time compiler: off, v, v=FILE, dump, dump=OPTIONS
    --errlog-level LEVEL debug, info, notice, warn, error, crit, alert or emerg (default: warn)
    --http-conf CONF     put CONF into the http block
    --http-include PATH  include PATH in the http block
    --main-conf CONF     put CONF at the main level
    --main-include PATH  include PATH at the main level
    --stream-conf CONF   put CONF into a stream block
    --no-stream          no stream block
    --ns IP              ask this name server (default: those of /etc/resolv.conf)
    --resolve-ipv6       look for IPv6 addresses too
    --shdict 'NAME SIZE' a shared dictionary
    --dump-nginx-conf    print the configuration and exit
    --                   the options end here
    -v, -V               print versions
    -h, --help           print this

A file called - is standard input.
";

/// Options with a value that stand in a list, and where.
fn list<'s>(script: &'s mut Script, name: &str) -> Option<&'s mut Vec<Vec<u8>>> {
    Some(match name {
        "I" => &mut script.include,
        "shdict" => &mut script.shdicts,
        "http-conf" => &mut script.http_conf,
        "http-include" => &mut script.http_include,
        "main-conf" => &mut script.main_conf,
        "main-include" => &mut script.main_include,
        "stream-conf" => &mut script.stream_conf,
        _ => return None,
    })
}

/// Reads the words behind the program's name.
///
/// # Errors
/// What to tell the user.
pub(super) fn parse(words: &[Vec<u8>]) -> Result<Asked, String> {
    let mut script = Script::default();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        if word == b"--" {
            break;
        }
        if !word.starts_with(b"-") || word == b"-" {
            at -= 1;
            break;
        }
        let (name, mut value) = split(word);
        match name.as_str() {
            "h" | "help" => return Ok(Asked::Help),
            "v" | "V" | "version" => return Ok(Asked::Version),
            "no-stream" => script.no_stream = true,
            "resolve-ipv6" => script.resolve_ipv6 = true,
            "dump-nginx-conf" => script.dump = true,
            "gdb" | "rr" | "stap" | "valgrind" => {
                return Err(format!("--{name} is not supported: run the program under that tool yourself"));
            }
            _ => {
                if value.is_none() && takes_value(&name) {
                    value = words.get(at).cloned();
                    at += 1;
                }
                let Some(value) = value else { return Err(complaint(&name)) };
                script.set(&name, value)?;
            }
        }
    }
    script.before = words.get(..at).unwrap_or_default().to_vec();
    script.args = words.get(at..).unwrap_or_default().to_vec();
    script.file = script.args.first().cloned();
    if script.file.is_none() && script.inline.is_empty() && !script.dump {
        return Err("Neither Lua input file nor -e \"\" option specified.".to_owned());
    }
    Ok(Asked::Run(Box::new(script)))
}

fn complaint(name: &str) -> String {
    if takes_value(name) {
        format!("Option {name} requires an argument")
    } else {
        format!("Unknown option: {name}")
    }
}

const WITH_VALUE: &[&str] = &[
    "c",
    "e",
    "I",
    "l",
    "j",
    "errlog-level",
    "http-conf",
    "http-include",
    "main-conf",
    "main-include",
    "stream-conf",
    "ns",
    "shdict",
    "nginx",
    "load-module",
    "user-runner",
    "gdb-opts",
    "stap-opts",
    "valgrind-opts",
];

fn takes_value(name: &str) -> bool {
    WITH_VALUE.contains(&name)
}

/// The name of an option, and its value if that stands in the same word: `--name=value`, `-nvalue`.
fn split(word: &[u8]) -> (String, Option<Vec<u8>>) {
    let long = word.strip_prefix(b"--");
    let text = long.or_else(|| word.strip_prefix(b"-")).unwrap_or(word);
    if let Some(at) = text.iter().position(|byte| *byte == b'=') {
        let (name, value) = text.split_at(at);
        let name = String::from_utf8_lossy(name).into_owned();
        if takes_value(&name) {
            return (name, value.get(1..).map(<[u8]>::to_vec));
        }
    }
    let whole = String::from_utf8_lossy(text).into_owned();
    if long.is_none() && text.len() > 1 && !takes_value(&whole) {
        let letter = whole.get(..1).unwrap_or_default();
        if takes_value(letter) {
            return (letter.to_owned(), text.get(1..).map(<[u8]>::to_vec));
        }
    }
    (whole, None)
}

impl Script {
    fn set(&mut self, name: &str, value: Vec<u8>) -> Result<(), String> {
        if let Some(list) = list(self, name) {
            list.push(value);
            return Ok(());
        }
        let text = String::from_utf8_lossy(&value).into_owned();
        match name {
            "e" => self.inline.push(value),
            "l" => self.inline.push([b"require \"".as_slice(), &value, b"\""].concat()),
            "c" => {
                let count = text.parse().ok().filter(|count| *count > 0);
                self.connections = Some(count.ok_or_else(|| format!("invalid value for -c: {text}"))?);
            }
            "j" => self.jit = Some(text),
            "errlog-level" => {
                if !LEVELS.contains(&&*text) {
                    return Err(format!("Invalid --errlog-level option value: {text}"));
                }
                self.level = Some(text);
            }
            "ns" => self.nameservers.push(text),
            // There is but one program, and it is this one.
            "nginx" | "gdb-opts" | "stap-opts" | "valgrind-opts" => {}
            "load-module" => return Err("--load-module is not supported: modules are built in".to_owned()),
            "user-runner" => return Err("--user-runner is not supported".to_owned()),
            _ => return Err(format!("Unknown option: {name}")),
        }
        Ok(())
    }
}

const LEVELS: &[&str] = &["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];

#[cfg(test)]
mod tests {
    use super::*;

    fn script(words: &[&str]) -> Script {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        match parse(&words).unwrap() {
            Asked::Run(script) => *script,
            other => panic!("{other:?}"),
        }
    }

    fn complaint_of(words: &[&str]) -> String {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        parse(&words).unwrap_err()
    }

    #[test]
    fn options_end_where_the_script_begins() {
        let script = script(&["-I", "lib", "-Iother", "--shdict=dogs 1m", "-e", "a=1", "x.lua", "-e", "b"]);
        assert_eq!(script.include, vec![b"lib".to_vec(), b"other".to_vec()]);
        assert_eq!(script.shdicts, vec![b"dogs 1m".to_vec()]);
        assert_eq!(script.inline, vec![b"a=1".to_vec()]);
        assert_eq!(script.file.as_deref(), Some(&b"x.lua"[..]));
        assert_eq!(script.args.len(), 3);
        assert_eq!(script.before.len(), 6);
    }

    #[test]
    fn libraries_are_required_in_their_place() {
        let script = script(&["-l", "a.b", "-e", "x()", "-j", "dump=bti", "--", "-f.lua"]);
        assert_eq!(script.inline, vec![b"require \"a.b\"".to_vec(), b"x()".to_vec()]);
        assert_eq!(script.jit.as_deref(), Some("dump=bti"));
        assert_eq!(script.file.as_deref(), Some(&b"-f.lua"[..]));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(complaint_of(&[]), "Neither Lua input file nor -e \"\" option specified.");
        assert_eq!(complaint_of(&["--frobnicate"]), "Unknown option: frobnicate");
        assert_eq!(complaint_of(&["-e"]), "Option e requires an argument");
        assert_eq!(complaint_of(&["--errlog-level", "loud"]), "Invalid --errlog-level option value: loud");
    }
}
