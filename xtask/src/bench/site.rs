//! What a row needs to run: files, certificates, servers behind the server, and the configuration that both servers get.
use std::path::{Path, PathBuf};
use std::process::Command;

use moonrest_testkit::{Server, ServerBuilder};

use super::cases::{Ask, Case, Need};
use super::services::Services;
use crate::run;

/// Debian's modules for nginx; the parts of Moonrest that they stand for are always there.
const LUA_MODULES: &str = "load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
";

/// Both servers of a comparison with what stands beside them.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    case: &'a Case,
    services: &'a Services,
    certificate: Option<(String, String)>,
    /// A directory with Lua libraries for nginx, before those that Debian installs.
    lualib: Option<PathBuf>,
    origin: Option<Server>,
}

impl<'a> Site<'a> {
    /// Starts what the row needs besides the two servers.
    pub(crate) fn new(
        case: &'a Case,
        services: &'a Services,
        theirs: &Path,
        lualib: Option<&Path>,
    ) -> Result<Self, String> {
        let certificate =
            match case.needs.iter().find(|need| matches!(need, Need::EcCertificate | Need::RsaCertificate)) {
                Some(Need::RsaCertificate) => Some(make_certificate(&["-newkey", "rsa:2048"])?),
                Some(_) => {
                    Some(make_certificate(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])?)
                }
                None => None,
            };
        let origin = case.needs.contains(&Need::Origin).then(|| {
            let last = super::load::others();
            files(Server::builder())
                .binary("taskset")
                .args_before(&["-c", &last, &theirs.to_string_lossy()])
                .start(
                    "worker_processes 1; master_process off; error_log logs/error.log warn;
                     events { worker_connections 1024; }
                     http { access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on;
                            server { listen {{addr}}; root {{root}}/html;
                                     location = / { return 200 \"hello, world\\n\"; } } }",
                )
        });
        Ok(Self { case, services, certificate, lualib: lualib.map(Path::to_owned), origin })
    }

    /// A server of this row, its process started through these words.
    pub(crate) fn builder(&self) -> ServerBuilder {
        let mut builder = files(Server::builder());
        if let Some((certificate, key)) = &self.certificate {
            builder = builder.file("cert.pem", certificate.as_str()).file("key.pem", key.as_str());
        }
        builder
    }

    /// The configuration; one text for both servers.
    pub(crate) fn conf(&self, workers: u32) -> String {
        let case = self.case;
        let mut main = String::new();
        let mut http = case.http.get();
        if case.needs.contains(&Need::Lua) {
            main.push_str(LUA_MODULES);
            let own = self.lualib.as_ref().map(|dir| format!("{0}/?.lua;{0}/?/init.lua;", dir.display()));
            http.push_str(&format!(" lua_package_path \"{};;\";", own.unwrap_or_default()));
        }
        let listen = match case.ask {
            Ask::Https(_) | Ask::Handshakes { .. } | Ask::Idle { tls: true, .. } => {
                "{{addr}} ssl backlog=8192"
            }
            Ask::Http2 { .. } => "{{addr}} ssl http2",
            _ => "{{addr}} backlog=8192",
        };
        let single = workers == 1 && case.ask != Ask::Reload;
        let text = format!(
            "{main}user root; worker_processes {workers}; master_process {}; error_log logs/error.log warn;
             worker_rlimit_nofile 60000;
             events {{ worker_connections 20000; }}
             http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; tcp_nopush on;
                    {http}
                    server {{ listen {listen}; {} }} }}",
            if single { "off" } else { "on" },
            case.server.get()
        );
        self.fill(&text).replace("{{generation}}", "1")
    }

    /// How many workers each server has.
    pub(crate) fn workers(&self) -> u32 {
        self.case.workers
    }

    fn fill(&self, text: &str) -> String {
        let origin = self.origin.as_ref().map_or(0, |origin| origin.addr().port());
        let mut text = text.replace("{{origin}}", &origin.to_string());
        for (word, port) in self.services.ports() {
            text = text.replace(&format!("{{{{{word}}}}}"), &port.to_string());
        }
        text
    }

    /// Why the second server cannot run this row, if it cannot.
    pub(crate) fn missing(&self) -> Option<String> {
        let library = self.case.needs.iter().find_map(|need| match need {
            Need::Library(name) => Some(*name),
            _ => None,
        })?;
        let file = library.replace('.', "/");
        let mut places = vec![
            format!("/usr/share/lua/5.1/{file}.lua"),
            format!("/usr/lib/x86_64-linux-gnu/lua/5.1/{file}.so"),
            format!("/usr/lib/aarch64-linux-gnu/lua/5.1/{file}.so"),
        ];
        if let Some(dir) = &self.lualib {
            places.push(format!("{}/{file}.lua", dir.display()));
            places.push(format!("{}/{file}/init.lua", dir.display()));
        }
        let found = places.iter().any(|place| Path::new(place).exists());
        (!found).then(|| format!("nginx needs the library {library}: name its directory with --lualib"))
    }
}

/// The files that rows ask for.
fn files(builder: ServerBuilder) -> ServerBuilder {
    let mut text = String::new();
    let mut number = 0_u32;
    while text.len() < 20_000 {
        // Words that repeat about as often as those of a page do.
        number = number.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        text.push_str(
            ["the ", "request ", "of ", "a ", "server ", "answers ", "with\n", "header "]
                [(number >> 16) as usize % 8],
        );
        text.push(char::from(b'a' + (number >> 24) as u8 % 26));
    }
    builder
        .file("html/1k.html", "x".repeat(1 << 10))
        .file("html/64k.html", "x".repeat(64 << 10))
        .file("html/1m.html", "x".repeat(1 << 20))
        .file("html/10m.html", "x".repeat(10 << 20))
        .file("html/20k.txt", text)
}

/// A certificate for `localhost` and its key, in PEM.
fn make_certificate(kind: &[&str]) -> Result<(String, String), String> {
    let ask = ["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", "-", "-out", "-"];
    let both = run::output(Command::new("openssl").args(ask).args(kind))?;
    let at = both.find("-----BEGIN CERTIFICATE").ok_or("openssl made no certificate")?;
    let (key, certificate) = both.split_at(at);
    if certificate.contains("PRIVATE KEY") {
        let end = certificate.find("-----BEGIN PRIVATE").ok_or("openssl made no key")?;
        return Ok((certificate[..end].to_owned(), certificate[end..].to_owned()));
    }
    Ok((certificate.to_owned(), key.to_owned()))
}
