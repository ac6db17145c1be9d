//! The configuration that a script runs in.

use super::options::Script;
use std::net::{IpAddr, Ipv6Addr};

/// Its text.
///
/// # Errors
/// What to tell the user.
pub(super) fn text(script: &Script) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.push(b'\n');
    };
    line(&[b"daemon off; master_process off; worker_processes 1;"]);
    line(&[b"error_log stderr ", script.level.as_deref().unwrap_or("warn").as_bytes(), b";"]);
    for conf in &script.main_conf {
        line(&[conf]);
    }
    for path in &script.main_include {
        line(&[b"include ", &quoted(path), b";"]);
    }
    let connections = script.connections.unwrap_or(64);
    line(&[format!("events {{ worker_connections {connections}; }}").as_bytes()]);
    if !script.no_stream && !script.stream_conf.is_empty() {
        line(&[b"stream {"]);
        for conf in &script.stream_conf {
            line(&[conf]);
        }
        line(&[b"}"]);
    }
    line(&[b"http {"]);
    line(&[b"access_log off;"]);
    line(&[b"lua_socket_log_errors off;"]);
    line(&[b"lua_regex_cache_max_entries 40960;"]);
    let resolver = resolver(script)?;
    line(&[resolver.as_bytes()]);
    for dict in &script.shdicts {
        line(&[b"lua_shared_dict ", dict, b";"]);
    }
    if !script.include.is_empty() {
        let (mut path, mut cpath) = (Vec::new(), Vec::new());
        for directory in &script.include {
            for ending in [&b"/?.ljbc;"[..], b"/?.lua;", b"/?/init.ljbc;", b"/?/init.lua;"] {
                path.extend_from_slice(directory);
                path.extend_from_slice(ending);
            }
            cpath.extend_from_slice(directory);
            cpath.extend_from_slice(b"/?.so;");
        }
        line(&[b"lua_package_path ", &quoted(&[&path, &b";"[..]].concat()), b";"]);
        line(&[b"lua_package_cpath ", &quoted(&[&cpath, &b";"[..]].concat()), b";"]);
    }
    for conf in &script.http_conf {
        line(&[conf]);
    }
    for path in &script.http_include {
        line(&[b"include ", &quoted(path), b";"]);
    }
    let prepare = prepare(script)?;
    line(&[b"init_by_lua_block { require(\"moonrest.console\").prepare(", &prepare, b") }"]);
    line(&[b"init_worker_by_lua_block { require(\"moonrest.console\").run(", &run(script), b") }"]);
    line(&[b"}"]);
    Ok(out)
}

/// A word of the configuration.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    out
}

/// A text in Lua: whatever is not plain is written as a number, so that nothing in it means anything to a parser.
fn lua_string(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &byte in text {
        match byte {
            b' ' | b'!' | b'#'..=b'[' | b']'..=b'z' | b'|' | b'~' => out.push(byte),
            _ => out.extend(format!("\\{byte:03}").bytes()),
        }
    }
    out.push(b'"');
    out
}

/// What `-j` asks for.
fn prepare(script: &Script) -> Result<Vec<u8>, String> {
    let Some(jit) = &script.jit else { return Ok(b"{}".to_vec()) };
    let (mode, option) = match jit.split_once('=') {
        Some((mode, option)) => (mode, Some(option)),
        None => (jit.as_str(), None),
    };
    if !matches!((mode, option), ("off", None) | ("v" | "dump", _)) {
        return Err(format!("Invalid -j option value: {jit}"));
    }
    let option = option.map_or_else(|| b"nil".to_vec(), |option| lua_string(option.as_bytes()));
    Ok([b"{ jit = \"", mode.as_bytes(), b"\", jit_option = ", &option, b" }"].concat())
}

fn run(script: &Script) -> Vec<u8> {
    let mut out = b"{ inline = { ".to_vec();
    for code in &script.inline {
        out.extend(lua_string(code));
        out.extend(b", ");
    }
    out.extend(b"}, ");
    match &script.file {
        Some(file) if file == b"-" => out.extend(b"stdin = true, "),
        Some(file) => {
            out.extend(b"file = ");
            out.extend(lua_string(file));
            out.extend(b", ");
        }
        None => {}
    }
    out.extend(b"arg = { ");
    for (n, word) in script.args.iter().enumerate() {
        out.extend(format!("[{n}] = ").bytes());
        out.extend(lua_string(word));
        out.extend(b", ");
    }
    for (n, word) in script.before.iter().rev().enumerate() {
        out.extend(format!("[-{}] = ", n + 1).bytes());
        out.extend(lua_string(word));
        out.extend(b", ");
    }
    out.extend(b"} }");
    out
}

/// The `resolver` directive: the servers asked for, or the system's.
fn resolver(script: &Script) -> Result<String, String> {
    let mut servers = Vec::new();
    for server in &script.nameservers {
        let address = server.parse().map_err(|_| format!("Invalid --ns option value: {server}"))?;
        servers.push(shown(address));
    }
    if servers.is_empty() {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        servers = system_servers(&text);
    }
    if servers.is_empty() {
        servers.push("127.0.0.1".to_owned());
    }
    let ipv6 = if script.resolve_ipv6 { "" } else { " ipv6=off" };
    Ok(format!("resolver {}{ipv6};", servers.join(" ")))
}

fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The name servers of a `resolv.conf`.
fn system_servers(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            words.next().filter(|word| *word == "nameserver")?;
            let address: IpAddr = words.next()?.parse().ok()?;
            // A zone cannot be named in a `resolver` directive; neither can an unspecified address be asked.
            Some(address).filter(|address| *address != IpAddr::V6(Ipv6Addr::UNSPECIFIED)).map(shown)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_survives_its_way_through_two_languages() {
        assert_eq!(lua_string(b"a\"{}\\\n]]"), b"\"a\\034\\123\\125\\092\\010]]\"");
        assert_eq!(quoted(b"a\"b\\"), b"\"a\\\"b\\\\\"");
    }

    #[test]
    fn the_systems_name_servers_are_asked() {
        let text = "# x\nnameserver 10.0.0.1\nsearch a\n nameserver\t::1\nnameserver fe80::1%eth0\n";
        assert_eq!(system_servers(text), ["10.0.0.1", "[::1]"]);
    }

    #[test]
    fn arguments_stand_around_the_script() {
        let script = Script {
            before: vec![b"-I".to_vec(), b"x".to_vec()],
            args: vec![b"a.lua".to_vec(), b"1".to_vec()],
            file: Some(b"a.lua".to_vec()),
            ..Script::default()
        };
        let text = String::from_utf8(run(&script)).unwrap();
        assert_eq!(
            text,
            "{ inline = { }, file = \"a.lua\", arg = { [0] = \"a.lua\", [1] = \"1\", [-1] = \"x\", [-2] = \"-I\", } }"
        );
    }

    #[test]
    fn only_modes_that_exist_are_taken() {
        let with = |jit: &str| prepare(&Script { jit: Some(jit.to_owned()), ..Script::default() });
        assert_eq!(with("dump=bT").unwrap(), b"{ jit = \"dump\", jit_option = \"bT\" }");
        assert_eq!(with("off").unwrap(), b"{ jit = \"off\", jit_option = nil }");
        assert!(with("fast").is_err());
    }
}
