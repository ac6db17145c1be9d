//! The rows of the benchmark: what is served, by what configuration, and who asks for it.
use std::fmt::Write as _;

/// A row.
#[derive(Debug)]
pub(crate) struct Case {
    /// The word for the command line.
    pub(crate) name: &'static str,
    /// What a reader of the table sees.
    pub(crate) title: &'static str,
    /// Directives of the `http` block, before the server.
    pub(crate) http: Text,
    /// Directives of the `server` block.
    pub(crate) server: Text,
    pub(crate) ask: Ask,
    pub(crate) needs: &'static [Need],
    pub(crate) workers: u32,
    /// The largest CPU ratio to nginx that the design allows; for scaling, the largest figure of our own.
    pub(crate) goal: f64,
}

/// A piece of configuration.
#[derive(Debug)]
pub(crate) enum Text {
    Plain(&'static str),
    /// Too long to be written out.
    Made(fn() -> String),
}

impl Text {
    pub(crate) fn get(&self) -> String {
        match self {
            Self::Plain(text) => (*text).to_owned(),
            Self::Made(make) => make(),
        }
    }
}

/// Who asks for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Keep-alive connections, one request at a time on each, over HTTP/1.1.
    Http(Request),
    /// The same of nginx, and of the bare loop in place of Moonrest.
    Floor(Request),
    /// The same over TLS.
    Https(Request),
    /// As many TLS handshakes as go, a small request each.
    Handshakes { resumed: bool },
    /// HTTP/2 over TLS.
    Http2 { connections: u32, streams: u32 },
    /// WebSocket messages that come back.
    WebSocket { connections: u32 },
    /// What a request costs a server of two workers, as a multiple of what it costs two servers of one worker under
    /// the same load on the same processors: 1 is perfect scaling, 1.11 is 1.8 times the work for twice the workers.
    Scaling(Request),
    /// Connections that made a request and then do nothing.
    Idle { connections: u32, tls: bool },
    /// The time from the start of the process to the first answer.
    Start,
    /// The time from the signal to the first answer of the new configuration.
    Reload,
}

/// A request that is made over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: &'static str,
    /// The size of the body; with one it is a POST request.
    pub(crate) body: usize,
    /// How many connections, if not as many as the command line says.
    pub(crate) connections: Option<u32>,
    /// A further line of the head.
    pub(crate) header: Option<(&'static str, &'static str)>,
    pub(crate) status: u16,
}

/// A thing besides the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// nginx's Lua module.
    Lua,
    /// The library of this name, when nginx is asked.
    Library(&'static str),
    Redis,
    Memcached,
    Mysql,
    Postgres,
    /// A server behind the one that is measured.
    Origin,
    /// A certificate with a P-256 key.
    EcCertificate,
    /// A certificate with a key of 2048 bits.
    RsaCertificate,
}

const fn get(path: &'static str) -> Request {
    Request { path, body: 0, connections: None, header: None, status: 200 }
}

const fn post(path: &'static str, body: usize) -> Request {
    Request { body, ..get(path) }
}

const fn row(name: &'static str, title: &'static str, server: &'static str) -> Case {
    Case {
        name,
        title,
        http: Text::Plain(""),
        server: Text::Plain(server),
        ask: Ask::Http(get("/")),
        needs: &[],
        workers: 1,
        goal: 0.9,
    }
}

const fn lua(name: &'static str, title: &'static str, server: &'static str) -> Case {
    Case { needs: &[Need::Lua], ..row(name, title, server) }
}

const TLS: &str =
    "ssl_certificate {{root}}/cert.pem; ssl_certificate_key {{root}}/key.pem; ssl_protocols TLSv1.3;
    ssl_session_tickets on; location / { return 200 \"hello, world\\n\"; }";

/// A row over TLS; `listen` gets its parameters from the kind of the row.
const fn tls(name: &'static str, title: &'static str, ask: Ask, goal: f64) -> Case {
    Case { ask, goal, needs: &[Need::EcCertificate], ..row(name, title, TLS) }
}

const HELLO: &str = "location / { return 200 \"hello, world\\n\"; }";
const FILES: &str = "root {{root}}/html;";

/// Upstream's library where it is installed, or the name that Debian gives it.
const REDIS: &str = r#"location / { content_by_lua_block {
    local found, redis = pcall(require, "resty.redis")
    if not found then redis = require "nginx.redis" end
    local red = redis:new()
    red:set_timeout(1000)
    assert(red:connect("127.0.0.1", {{redis}}))
    local value = assert(red:get("key"))
    red:set_keepalive(10000, 100)
    ngx.say(value)
} }"#;

const MEMCACHED: &str = r#"location / { content_by_lua_block {
    local found, memcached = pcall(require, "resty.memcached")
    if not found then memcached = require "nginx.memcached" end
    local memc = memcached:new()
    memc:set_timeout(1000)
    assert(memc:connect("127.0.0.1", {{memcached}}))
    local value, _, err = memc:get("key")
    assert(value, err)
    memc:set_keepalive(10000, 100)
    ngx.say(value)
} }"#;

const MYSQL: &str = r#"location / { content_by_lua_block {
    local mysql = require "resty.mysql"
    local db = mysql:new()
    db:set_timeout(1000)
    assert(db:connect{ host = "127.0.0.1", port = {{mysql}}, database = "ngx_test", user = "ngx_test", password = "ngx_test" })
    local rows = assert(db:query("select name from people where id = 7"))
    db:set_keepalive(10000, 100)
    ngx.say(rows[1].name)
} }"#;

const POSTGRES: &str = r#"location / { content_by_lua_block {
    local pg = require("pgmoon").new{ host = "127.0.0.1", port = {{postgres}}, database = "ngx_test",
        user = "ngx_test", password = "ngx_test" }
    assert(pg:connect())
    local rows = assert(pg:query("select name from people where id = 7"))
    pg:keepalive(10000, 100)
    ngx.say(rows[1].name)
} }"#;

const WEBSOCKET: &str = r#"location / { content_by_lua_block {
    local found, server = pcall(require, "resty.websocket.server")
    if not found then server = require "nginx.websocket.server" end
    local ws = assert(server:new{ timeout = 60000, max_payload_len = 65535 })
    while true do
        local data, kind = ws:recv_frame()
        if not data or kind == "close" then return end
        if not ws:send_text(data) then return end
    end
} }"#;

const PHASES: &str = r#"location / {
    rewrite_by_lua_block { ngx.ctx.started = ngx.now() }
    access_by_lua_block { ngx.ctx.user = ngx.var.remote_addr }
    content_by_lua_block { ngx.say("hello, ", ngx.ctx.user) }
    header_filter_by_lua_block { ngx.header["X-User"] = ngx.ctx.user }
    body_filter_by_lua_block { ngx.ctx.length = (ngx.ctx.length or 0) + #ngx.arg[1] }
    log_by_lua_block { ngx.ctx.spent = ngx.now() - ngx.ctx.started }
}"#;

const READS: &str = r#"location / { content_by_lua_block {
    local headers, var = ngx.req.get_headers(), ngx.var
    local sum = #var.remote_addr + #var.uri + #var.request_method + #var.host + #var.scheme + #var.server_protocol
    local agent, host = headers["user-agent"] or "", headers.host
    ngx.header["X-Sum"] = sum + #agent + #host + #ngx.req.get_method() + #(var.args or "")
    ngx.say("hello")
} }"#;

const REGEX: &str = r#"location / { content_by_lua_block {
    local found = ngx.re.match("user=alice; id=12345; role=admin", [[id=(\d+); role=(?<role>\w+)]], "jo")
    ngx.say(found[1], " ", found.role)
} }"#;

const CJSON: &str = r#"location / { content_by_lua_block {
    local cjson = require "cjson"
    local value = cjson.decode('{"id":12345,"name":"Alice","tags":["a","b","c"],"nested":{"yes":true,"pi":3.25}}')
    value.id = value.id + 1
    ngx.say(cjson.encode(value))
} }"#;

const DICT_INCR: &str =
    r#"location / { content_by_lua_block { ngx.say(ngx.shared.dict:incr("key", 1, 0)) } }"#;
const DICT_SET: &str =
    r#"location / { content_by_lua_block { ngx.shared.dict:set("key", "a value"); ngx.say("set") } }"#;
const DICT_GET: &str = r#"location / { content_by_lua_block { ngx.say(ngx.shared.dict:get("key") or "none") } }
    location = /set { content_by_lua_block { ngx.shared.dict:set("key", "a value"); ngx.say("set") } }"#;

const DICT: Text = Text::Plain("lua_shared_dict dict 10m;");

const ORIGIN: Text = Text::Plain("upstream origin { server 127.0.0.1:{{origin}}; keepalive 64; }");

const PROXY: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_pass http://origin;";

const ACCESS_LOG: &str =
    "access_log {{root}}/logs/access.log eight; location / { return 200 \"hello, world\\n\"; }";

const EIGHT: Text = Text::Plain(
    "log_format eight '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
     \"$http_referer\" \"$http_user_agent\"';",
);

/// All rows, in the order of the table.
pub(crate) static CASES: &[Case] = &[
    row("return", "`return 200`", HELLO),
    Case {
        ask: Ask::Floor(get("/")),
        goal: 1.0,
        ..row("floor", "the same by a loop that only receives and sends", HELLO)
    },
    Case { ask: Ask::Http(get("/1k.html")), goal: 0.85, ..row("file-1k", "file of 1 KiB", FILES) },
    Case { ask: Ask::Http(get("/64k.html")), ..row("file-64k", "file of 64 KiB", FILES) },
    Case { ask: Ask::Http(get("/10m.html")), ..row("file-10m", "file of 10 MiB", FILES) },
    Case {
        ask: Ask::Http(Request { status: 404, ..get("/none") }),
        http: Text::Plain("log_not_found off;"),
        ..row("404", "404", FILES)
    },
    Case {
        ask: Ask::Http(Request { header: Some(("Accept-Encoding", "gzip")), ..get("/20k.txt") }),
        goal: 0.45,
        ..row(
            "gzip",
            "gzip of 20 KB of text, level 6",
            "root {{root}}/html; gzip on; gzip_comp_level 6; gzip_types text/plain;",
        )
    },
    Case { http: EIGHT, ..row("access-log", "access log, 8 variables", ACCESS_LOG) },
    lua("say", "Lua `ngx.say`", r#"location / { content_by_lua_block { ngx.say("hello, world") } }"#),
    lua(
        "sleep",
        "Lua `ngx.say` and `ngx.sleep(0)`",
        r#"location / { content_by_lua_block { ngx.sleep(0) ngx.say("hello, world") } }"#,
    ),
    Case { goal: 0.75, ..lua("reads", "Lua, 10 header and variable reads", READS) },
    Case { goal: 0.75, ..lua("phases", "Lua in six phases with `ngx.ctx`", PHASES) },
    Case { goal: 0.75, ..lua("regex", "Lua `ngx.re.match` with captures", REGEX) },
    Case { http: DICT, goal: 0.75, ..lua("dict-get", "shared dictionary get", DICT_GET) },
    Case { http: DICT, goal: 0.75, ..lua("dict-set", "shared dictionary set", DICT_SET) },
    Case { http: DICT, goal: 0.75, ..lua("dict-incr", "shared dictionary incr", DICT_INCR) },
    Case { http: DICT, workers: 2, ..lua("dict-get-2", "shared dictionary get, 2 workers", DICT_GET) },
    Case { http: DICT, workers: 2, ..lua("dict-set-2", "shared dictionary set, 2 workers", DICT_SET) },
    Case { http: DICT, workers: 2, ..lua("dict-incr-2", "shared dictionary incr, 2 workers", DICT_INCR) },
    Case {
        workers: 2,
        ask: Ask::Scaling(get("/")),
        goal: 1.11,
        ..row("scaling", "cost with 2 workers, `return 200`", HELLO)
    },
    Case {
        http: DICT,
        workers: 2,
        ask: Ask::Scaling(get("/")),
        goal: 1.11,
        ..lua("scaling-dict", "cost with 2 workers, shared dictionary incr", DICT_INCR)
    },
    Case {
        needs: &[Need::Lua, Need::Library("cjson")],
        goal: 0.75,
        ..lua("cjson", "cjson round trip", CJSON)
    },
    Case {
        goal: 0.75,
        ..lua(
            "capture",
            "`ngx.location.capture`",
            r#"location / { content_by_lua_block { ngx.print(ngx.location.capture("/sub").body) } }
               location = /sub { internal; return 200 "hello, world\n"; }"#,
        )
    },
    Case { needs: &[Need::Lua, Need::Redis], goal: 0.75, ..lua("redis", "Redis GET", REDIS) },
    Case { needs: &[Need::Lua, Need::Memcached], goal: 0.75, ..lua("memcached", "memcached get", MEMCACHED) },
    Case {
        needs: &[Need::Lua, Need::Library("resty.mysql"), Need::Mysql],
        goal: 0.75,
        ..lua("mysql", "MySQL select by key", MYSQL)
    },
    Case {
        needs: &[Need::Lua, Need::Library("pgmoon"), Need::Postgres],
        goal: 0.75,
        ..lua("postgres", "PostgreSQL select by key", POSTGRES)
    },
    Case {
        http: ORIGIN,
        needs: &[Need::Origin],
        server: Text::Made(|| format!("location / {{ {PROXY} }}")),
        ..row("proxy", "proxy, keep-alive, small", "")
    },
    Case {
        http: ORIGIN,
        needs: &[Need::Origin],
        server: Text::Made(|| format!("location / {{ {PROXY} }}")),
        ask: Ask::Http(get("/1m.html")),
        ..row("proxy-1m", "proxy, keep-alive, 1 MiB", "")
    },
    Case {
        http: Text::Plain(
            "proxy_cache_path {{root}}/temp/cache levels=1:2 keys_zone=cache:10m; \
             upstream origin { server 127.0.0.1:{{origin}}; keepalive 64; }",
        ),
        needs: &[Need::Origin],
        server: Text::Made(|| format!("location / {{ {PROXY} proxy_cache cache; proxy_cache_valid 1h; }}")),
        goal: 0.85,
        ask: Ask::Http(get("/1k.html")),
        ..row("cache", "`proxy_cache` hit, 1 KiB", "")
    },
    Case {
        http: Text::Plain("limit_req_zone $binary_remote_addr zone=limit:10m rate=10000000r/s;"),
        ..row(
            "limit-req",
            "`limit_req`",
            "location / { root {{root}}/html; limit_req zone=limit burst=1000000 nodelay; try_files /1k.html =404; }",
        )
    },
    tls("tls", "TLS keep-alive", Ask::Https(get("/")), 0.85),
    tls("handshake", "TLS 1.3 handshake, P-256", Ask::Handshakes { resumed: false }, 0.65),
    Case {
        needs: &[Need::RsaCertificate],
        ..tls("handshake-rsa", "TLS 1.3 handshake, RSA 2048", Ask::Handshakes { resumed: false }, 0.8)
    },
    tls("resumed", "TLS 1.3 handshake, resumed", Ask::Handshakes { resumed: true }, 0.9),
    tls("h2", "HTTP/2, 32 connections of 16 streams", Ask::Http2 { connections: 32, streams: 16 }, 0.6),
    tls("h2-single", "HTTP/2, 64 connections of 1 stream", Ask::Http2 { connections: 64, streams: 1 }, 1.0),
    Case {
        needs: &[Need::Lua],
        goal: 0.75,
        ask: Ask::WebSocket { connections: 32 },
        ..lua("websocket", "WebSocket echo", WEBSOCKET)
    },
    Case { ask: Ask::Http(post("/", 1024)), goal: 0.75, ..lua("post-1k", "POST of 1 KiB read in Lua", POST) },
    Case { ask: Ask::Http(post("/", 1 << 20)), ..lua("post-1m", "POST of 1 MiB read in Lua", POST) },
    Case {
        http: Text::Made(many_servers),
        server: Text::Made(many_locations),
        ask: Ask::Http(Request { header: Some(("Host", "name777.example.com")), ..get("/dir777/file") }),
        ..row("many", "1,000 server names, 1,000 locations", "")
    },
    Case {
        ask: Ask::Http(Request { connections: Some(10_000), ..get("/") }),
        ..row("active", "`return 200`, 10,000 active connections", HELLO)
    },
    Case {
        ask: Ask::Idle { connections: 10_000, tls: false },
        goal: 1.1,
        ..row("idle", "idle connection, bytes", HELLO)
    },
    tls("idle-tls", "idle TLS connection, bytes", Ask::Idle { connections: 2_000, tls: true }, 0.36),
    Case {
        ask: Ask::Start,
        server: Text::Made(ten_thousand),
        goal: 1.0,
        ..row("start", "start with 10,000 locations, ms", "")
    },
    Case {
        ask: Ask::Reload,
        server: Text::Made(ten_thousand),
        goal: 1.0,
        ..row("reload", "reload with 10,000 locations, ms", "")
    },
];

const POST: &str = r#"client_max_body_size 2m; client_body_buffer_size 2m;
    location / { content_by_lua_block { ngx.req.read_body() ngx.say(#ngx.req.get_body_data()) } }"#;

/// 999 servers besides the one that is asked.
fn many_servers() -> String {
    let mut text = String::from("server_names_hash_max_size 8192; server_names_hash_bucket_size 128;\n");
    for number in (0..1000).filter(|&number| number != 777) {
        let _ = writeln!(
            text,
            "server {{ listen {{{{addr}}}}; server_name name{number}.example.com; location / {{ return 200 other; }} }}"
        );
    }
    text
}

fn many_locations() -> String {
    let mut text = String::from("server_name name777.example.com;\n");
    for number in 0..1000 {
        let _ = writeln!(text, "location /dir{number}/ {{ return 200 \"{number}\\n\"; }}");
    }
    text
}

fn ten_thousand() -> String {
    let mut text = String::from("location = /generation { return 200 \"{{generation}}\"; }\n");
    for number in 0..10_000 {
        let _ = writeln!(text, "location /dir{number}/ {{ return 200 \"{number}\\n\"; }}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unlike() {
        let names: BTreeSet<&str> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
    }

    #[test]
    fn long_configurations_are_made() {
        assert_eq!(many_servers().lines().count(), 1000);
        assert!(many_locations().contains("location /dir999/"));
    }
}
