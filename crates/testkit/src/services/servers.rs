//! Each kind of server: its files, its command line, its users, how one sees that it is ready.
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;

use super::launch::{Place, User, finish, needed, run};
use super::{NAME, Service, Variables};
use crate::port::Port;

/// Redis on a port, on one with TLS, and on a socket. The default user needs no password, `ngx_test` does.
pub(super) fn redis(place: &Place) -> io::Result<Service> {
    let (port, tls) = (Port::reserve()?, Port::reserve()?);
    let socket = place.path("redis.sock");
    place.certificate()?;
    let conf = format!(
        "bind 127.0.0.1\nport {}\ntls-port {}\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\n\
         tls-ca-cert-file {}\nunixsocket {socket}\ndir {}\nsave \"\"\nappendonly no\n\
         user {NAME} on >{NAME} ~* &* +@all\n",
        port.number(),
        tls.number(),
        place.path("cert.pem"),
        place.path("key.pem"),
        place.path("ca.pem"),
        place.dir.display(),
    );
    fs::write(place.path("redis.conf"), conf)?;
    let mut command = place.command(&needed("redis-server")?, None, Signal::TERM);
    command.arg(place.path("redis.conf"));
    let mut child = place.spawn(command)?;
    place.wait(&mut child, || answers(port.addr(), b"PING\r\n", b"+PONG") && answers_at_all(tls.addr()))?;
    let variables = Variables::from([
        ("REDIS_PORT", port.number().to_string()),
        ("REDIS_TLS_PORT", tls.number().to_string()),
        ("REDIS_SOCKET", socket),
        ("REDIS_CA", place.path("ca.pem")),
    ]);
    Ok(Service { variables, children: vec![(child, Signal::TERM)], _ports: vec![port, tls] })
}

/// memcached on a port and on one with TLS; a second one on a socket, which excludes ports.
pub(super) fn memcached(place: &Place) -> io::Result<Service> {
    let (port, tls) = (Port::reserve()?, Port::reserve()?);
    let socket = place.path("memcached.sock");
    let user = User::instead_of_root(&["memcache", "nobody"])?;
    place.certificate()?;
    place.give_to(user.as_ref())?;
    let program = needed("memcached")?;
    let mut command = place.command(&program, user.as_ref(), Signal::TERM);
    command.args(["-U", "0", "-l", &format!("notls:127.0.0.1:{}", port.number())]);
    command.args(["-l", &format!("127.0.0.1:{}", tls.number()), "-Z", "-o"]);
    command.arg(format!("ssl_chain_cert={},ssl_key={}", place.path("cert.pem"), place.path("key.pem")));
    let mut on_socket = place.command(&program, user.as_ref(), Signal::TERM);
    on_socket.args(["-s", &socket]);
    let mut children = vec![(place.spawn(command)?, Signal::TERM), (place.spawn(on_socket)?, Signal::TERM)];
    if let [(first, _), (second, _)] = children.as_mut_slice() {
        place
            .wait(first, || answers(port.addr(), b"version\r\n", b"VERSION") && answers_at_all(tls.addr()))?;
        place.wait(second, || UnixStream::connect(&socket).is_ok())?;
    }
    let variables = Variables::from([
        ("MEMCACHED_PORT", port.number().to_string()),
        ("MEMCACHED_TLS_PORT", tls.number().to_string()),
        ("MEMCACHED_SOCKET", socket),
        ("MEMCACHED_CA", place.path("ca.pem")),
    ]);
    Ok(Service { variables, children, _ports: vec![port, tls] })
}

/// What `MariaDB` executes before it takes connections.
fn mysql_setup(with_ed25519: bool) -> String {
    let mut users = String::new();
    let mut user = |name: &str, how: &str, more: &str| {
        users.push_str(&format!(
            "CREATE USER '{name}'@'%' IDENTIFIED {how} {more};\nGRANT ALL ON *.* TO '{name}'@'%';\n"
        ));
    };
    user(NAME, &format!("BY '{NAME}'"), "");
    user("ngx_tls", &format!("BY '{NAME}'"), "REQUIRE SSL");
    user("ngx_nopass", "BY ''", "");
    if with_ed25519 {
        user("ngx_ed25519", &format!("VIA ed25519 USING PASSWORD('{NAME}')"), "");
    }
    let plugin = if with_ed25519 { "INSTALL SONAME 'auth_ed25519';\n" } else { "" };
    format!(
        "{plugin}CREATE DATABASE {NAME};\nDELETE FROM mysql.global_priv WHERE User = '';\nFLUSH PRIVILEGES;\n{users}"
    )
}

/// `MariaDB` on a port and on a socket, both with TLS.
pub(super) fn mysql(place: &Place) -> io::Result<Service> {
    let port = Port::reserve()?;
    let socket = place.path("mysql.sock");
    let user = User::instead_of_root(&["mysql", "nobody"])?;
    let with_ed25519 = std::path::Path::new("/usr/lib/mysql/plugin/auth_ed25519.so").is_file();
    place.certificate()?;
    fs::write(place.path("setup.sql"), mysql_setup(with_ed25519))?;
    place.give_to(user.as_ref())?;
    let data = place.path("data");
    let mut command = place.command(&needed("mariadb-install-db")?, user.as_ref(), Signal::KILL);
    command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
    run(command.arg(format!("--datadir={data}")).arg("--innodb-log-file-size=5M"))?;
    let mut command = place.command(&needed("mariadbd")?, user.as_ref(), Signal::KILL);
    command.args([
        "--no-defaults",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--max-allowed-packet=64M",
    ]);
    command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=5M", "--skip-log-bin"]);
    command.args(["--character-set-server=utf8mb4", "--max-connections=300"]);
    for (option, value) in [
        ("datadir", &data),
        ("port", &port.number().to_string()),
        ("socket", &socket),
        ("pid-file", &place.path("pid")),
        ("init-file", &place.path("setup.sql")),
        ("ssl-cert", &place.path("cert.pem")),
        ("ssl-key", &place.path("key.pem")),
        ("ssl-ca", &place.path("ca.pem")),
    ] {
        command.arg(format!("--{option}={value}"));
    }
    let mut child = place.spawn(command)?;
    // The greeting comes when the file of statements is done.
    place.wait(&mut child, || answers(port.addr(), b"", b""))?;
    let variables = Variables::from([
        ("MYSQL_PORT", port.number().to_string()),
        ("MYSQL_SOCKET", socket),
        ("MYSQL_PATH", place.path("mysql.sock")),
        ("MYSQL_CA", place.path("ca.pem")),
    ]);
    Ok(Service { variables, children: vec![(child, Signal::KILL)], _ports: vec![port] })
}

/// Who may log in how. The names say it.
const HBA: &str = "\
local   all ngx_scram   scram-sha-256
local   all all         trust
hostssl all ngx_tls     127.0.0.1/32 scram-sha-256
host    all ngx_tls     127.0.0.1/32 reject
host    all ngx_md5     127.0.0.1/32 md5
host    all ngx_plain   127.0.0.1/32 password
host    all ngx_trust   127.0.0.1/32 trust
host    all postgres    127.0.0.1/32 trust
host    all all         127.0.0.1/32 scram-sha-256
";

/// `PostgreSQL` on a port and on a socket, with TLS for those who ask.
pub(super) fn postgres(place: &Place) -> io::Result<Service> {
    let port = Port::reserve()?;
    let user = User::instead_of_root(&["postgres", "nobody"])?;
    place.certificate()?;
    place.give_to(user.as_ref())?;
    let data = place.path("data");
    let mut command = place.command(&needed("initdb")?, user.as_ref(), Signal::QUIT);
    run(command.args([
        "-D",
        &data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
    ]))?;
    let program = needed("postgres")?;
    let mut command = place.command(&program, user.as_ref(), Signal::QUIT);
    command.args(["--single", "-D", &data, "postgres"]).stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut single = command.spawn()?;
    if let Some(mut stdin) = single.stdin.take() {
        for (role, encryption) in [
            (NAME, "scram-sha-256"),
            ("ngx_scram", "scram-sha-256"),
            ("ngx_tls", "scram-sha-256"),
            ("ngx_md5", "md5"),
            ("ngx_plain", "scram-sha-256"),
            ("ngx_trust", "scram-sha-256"),
        ] {
            writeln!(stdin, "SET password_encryption = '{encryption}';")?;
            writeln!(stdin, "CREATE ROLE {role} LOGIN PASSWORD '{NAME}';")?;
        }
        writeln!(stdin, "CREATE DATABASE {NAME} OWNER {NAME};")?;
    }
    finish(single.wait_with_output()?)?;
    fs::write(place.path("data/pg_hba.conf"), HBA)?;
    let mut command = place.command(&program, user.as_ref(), Signal::QUIT);
    command.arg("-D").arg(&data);
    for (option, value) in [
        ("port", &port.number().to_string()),
        ("listen_addresses", &"127.0.0.1".into()),
        ("unix_socket_directories", &place.path("")),
        ("ssl", &"on".into()),
        ("ssl_cert_file", &place.path("cert.pem")),
        ("ssl_key_file", &place.path("key.pem")),
        ("fsync", &"off".into()),
        ("max_connections", &"100".into()),
    ] {
        command.arg("-c").arg(format!("{option}={value}"));
    }
    let mut child = place.spawn(command)?;
    let pid_file = place.path("data/postmaster.pid");
    place.wait(&mut child, || {
        let status = fs::read_to_string(&pid_file).unwrap_or_default();
        status.lines().nth(7).is_some_and(|line| line.trim() == "ready")
    })?;
    let variables = Variables::from([
        ("POSTGRES_PORT", port.number().to_string()),
        ("POSTGRES_SOCKET", place.path(&format!(".s.PGSQL.{}", port.number()))),
        ("POSTGRES_CA", place.path("ca.pem")),
    ]);
    // Ends sessions at once.
    Ok(Service { variables, children: vec![(child, Signal::QUIT)], _ports: vec![port] })
}

/// PHP-FPM on a socket. It reads scripts anywhere, so that those of a specification need no permissions.
pub(super) fn php_fpm(place: &Place) -> io::Result<Service> {
    let socket = place.path("php-fpm.sock");
    let root = rustix::process::geteuid().is_root();
    let user = if root { "user = root\ngroup = root\n" } else { "" };
    fs::write(
        place.path("php-fpm.conf"),
        format!(
            "[global]\nerror_log = {}\ndaemonize = no\n[www]\n{user}listen = {socket}\npm = static\n\
             pm.max_children = 4\ncatch_workers_output = yes\nclear_env = no\n",
            place.path("php.log")
        ),
    )?;
    let mut command = place.command(&needed("php-fpm")?, None, Signal::QUIT);
    command.args(["-n", "-F", "-y", &place.path("php-fpm.conf")]);
    if root {
        command.arg("-R");
    }
    let mut child = place.spawn(command)?;
    place.wait(&mut child, || UnixStream::connect(&socket).is_ok())?;
    let variables = Variables::from([("PHP_FPM", socket)]);
    Ok(Service { variables, children: vec![(child, Signal::QUIT)], _ports: Vec::new() })
}

/// Whether there is someone.
fn answers_at_all(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok()
}

/// Whether a question is answered, and how the answer begins.
fn answers(addr: SocketAddr, question: &[u8], answer: &[u8]) -> bool {
    let ask = || {
        let mut socket = TcpStream::connect_timeout(&addr, Duration::from_secs(1))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(question)?;
        let mut bytes = [0; 256];
        let n = socket.read(&mut bytes)?;
        Ok::<_, io::Error>(n > 0 && bytes.starts_with(answer))
    };
    ask().unwrap_or(false)
}
